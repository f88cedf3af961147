"""Train a recipe, or what a file says.

    python -m workloads.training digits --out out/                             alone
    horovodrun -np 2 python -m workloads.training digits --out out/            two processes, by Horovod
    torchrun --nproc-per-node 2 -m workloads.training digits --out out/        two, by PyTorch itself
    python -m workloads.training digits --print > run.json                     the whole configuration, to be changed

DIR receives config.json, lineage.json, checkpoints/ and metrics.jsonl, with a file more for each further process.
Started again with the same DIR, the run goes on from its newest checkpoint; SIGTERM or Ctrl-C saves one first.
"""

import argparse
import os
import sys
from pathlib import Path

from workloads.command_line import new_parser
from workloads.errors import WorkloadError
from workloads.recipes import RECIPES
from workloads.tracking.server import URL
from workloads.training.config import TrainingConfig
from workloads.training.launch_check import leader, refuse_another_start
from workloads.training.load_config import read
from workloads.training.tracking import following

STATUS = "Exit status: 0 trained or stopped as asked, 1 worse than its parent, 2 wrong or refused, 4 a step failed."


def arguments() -> argparse.ArgumentParser:
    parser = new_parser("workloads.training", __doc__, f"Recipes: {', '.join(RECIPES)}. {STATUS}")
    parser.add_argument("what", metavar="RECIPE|FILE.json", help="name of a recipe, or a file as --print writes it")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where it writes to, and goes on from")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="changes",
        help="a value instead of the recipe's, such as schedule.kind=cosine; may be given again",
    )  # fmt: skip
    parser.add_argument("--stop-at", type=int, metavar="STEP", help="save and stop after so many steps in all")
    parser.add_argument(
        "--publish-worse", metavar="REASON", help="let a fine-tuning out though it is worse than its parent"
    )
    parser.add_argument(
        "--tracking", metavar="URL", default=os.environ.get(URL, ""), help=f"an MLflow server that is told; or {URL}"
    )
    parser.add_argument(
        "--register", metavar="MODEL", help="once it has finished, register its last checkpoint as this"
    )
    parser.add_argument("--print", action="store_true", help="print the complete configuration, and do nothing")
    return parser


def main(argv: list[str] | None = None) -> int:
    parser = arguments()
    given = parser.parse_args(argv)
    try:
        config = read(given.what, given.changes)
        if given.print:
            print(config.model_dump_json(indent=2))
            return 0
        if given.out is None:
            raise WorkloadError("--out", "got none", "a run writes somewhere", "Say --out DIR")
        if given.register and not given.tracking:
            raise WorkloadError("--register", "got no server", "versions are registered at one", "Say --tracking URL")
        refuse_another_start(config, os.environ)  # before PyTorch, which takes seconds to import
    except WorkloadError as error:
        # they have not met: the first that ends takes the others along, which may not have been heard yet
        print(error, file=sys.stderr, flush=True)
        return error.exit_status
    try:
        with following(config, given.out, given.tracking, given.register):
            _train(config, given.out, given.stop_at, given.publish_worse)
        return 0
    except WorkloadError as error:
        if leader(os.environ):
            print(error, file=sys.stderr, flush=True)
        return error.exit_status


def _train(config: TrainingConfig, out: Path, stop_at: int | None, publish_worse: str | None) -> None:
    from workloads.training.run import train

    train(config, out, os.environ, stop_at, publish_worse)


if __name__ == "__main__":
    sys.exit(main())
