"""Train a model from a recipe or from a configuration file.

    python -m workloads.training digits --out out/                             one process
    horovodrun -np 2 python -m workloads.training digits --out out/            two processes, started by Horovod
    torchrun --nproc-per-node 2 -m workloads.training digits --out out/        two processes, started by PyTorch
    python -m workloads.training digits --print > run.json                     the complete configuration, to be edited

The run writes config.json, lineage.json, checkpoints/ and metrics.jsonl to DIR, and one more metrics file for each
further process. A run that is started again with the same DIR resumes from its newest checkpoint. SIGTERM or Ctrl-C
saves a checkpoint before the run stops.
"""

import argparse
import os
import sys
from pathlib import Path

from workloads.command_line import as_command, new_parser, writes_to
from workloads.errors import Diagnostic, UserError
from workloads.gpus import hide_other_gpus
from workloads.recipes import RECIPES
from workloads.tracking.server import URL
from workloads.training.config import TrainingConfig
from workloads.training.launch_check import check_launch, is_leader
from workloads.training.load_config import load_config
from workloads.training.tracking import track_run

STATUS = (
    "Exit status: 0 trained or stopped on request, 1 not published: worse than its parent or nothing learned, 2 bad "
    "input or refused, 4 a step failed."
)


def arguments() -> argparse.ArgumentParser:
    parser = new_parser("workloads.training", __doc__, f"Recipes: {', '.join(RECIPES)}. {STATUS}")
    parser.add_argument("source", metavar="RECIPE|FILE.json", help="a recipe's name, or a file that --print wrote")
    parser.add_argument("--out", type=Path, metavar="DIR", help="directory that the run writes to and resumes from")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="changes",
        help="a value that replaces the recipe's, such as schedule.kind=cosine; repeatable",
    )  # fmt: skip
    parser.add_argument("--stop-at", type=int, metavar="STEP", help="save and stop after this many steps in total")
    parser.add_argument(
        "--publish-worse", metavar="REASON",
        help="publish a model although it is worse than its parent, or has learned nothing",
    )  # fmt: skip
    parser.add_argument(
        "--tracking", metavar="URL", default=os.environ.get(URL, ""), help=f"MLflow server of the run (default: {URL})"
    )
    parser.add_argument(
        "--register", metavar="MODEL", help="when the run has finished, register its last checkpoint as this model"
    )
    parser.add_argument("--print", action="store_true", help="print the complete configuration and exit")
    return parser


@as_command
def main(argv: list[str] | None = None) -> int:
    args = arguments().parse_args(argv)
    # Every process prints these errors: the first one that ends stops the others, perhaps before rank 0 has printed it.
    config = load_config(args.source, args.changes)
    if args.print:
        print(config.model_dump_json(indent=2))
        return 0
    if args.out is None:
        raise UserError(Diagnostic("--out", "the option is missing", "a directory for the run", "Add --out DIR"))
    if args.register and not args.tracking:
        note = "an MLflow server registers versions"
        raise UserError(Diagnostic("--register", "no server is named", help="Add --tracking URL", note=note))
    hide_other_gpus()
    check_launch(config, os.environ)  # before PyTorch, which takes seconds to import
    try:
        with writes_to(args.out), track_run(config, args.out, args.tracking, args.register):
            _train(config, args.out, args.stop_at, args.publish_worse)
    except UserError as error:
        if is_leader(os.environ):
            raise
        return error.exit_status
    return 0


def _train(config: TrainingConfig, out: Path, stop_at: int | None, publish_worse: str | None) -> None:
    from workloads.training.run import train

    train(config, out, os.environ, stop_at, publish_worse)


if __name__ == "__main__":
    sys.exit(main())
