"""Quantise a model for the processor that runs it, and publish it if it keeps its accuracy.

    python -m workloads.quantize out/ --data digits --target cpu --out published/digits
    python -m workloads.quantize model.onnx --data rows.npz --target t4 --out published/model
    python -m workloads.quantize out/ --data digits --target cpu --out published/fp32 --set precision=fp32
    python -m workloads.quantize models:/digits@champion --data digits --target cpu --out published/digits \\
        --tracking https://tracking.example:5000 --register digits-int8

MODEL is a directory of `python -m workloads.training`, a published model, an ONNX file, or a version on the MLflow
server; `python -m workloads.tracking` says how the account is set. A hash of each row divides the data: some rows
calibrate, some search for layers that cost accuracy, and the held-out rows judge. DIR is a directory for
`python -m workloads.serving`; DIR.report has report.json, report.md and report.svg, whether DIR is published or not.
"""

import argparse
import os
import sys
from pathlib import Path

from workloads import config_file
from workloads.command_line import as_command, new_parser
from workloads.errors import Diagnostic, UserError
from workloads.output_directory import OutputDirectory, add_arguments
from workloads.quantize.config import QuantizeSettings
from workloads.serving.model import MODEL
from workloads.tracking.registry import cache_directory
from workloads.tracking.server import URL, connect

STATUS = "Exit status: 0 published, 1 below the gate or the model is damaged, 2 wrong input, 3 server unreachable."


def arguments() -> argparse.ArgumentParser:
    parser = new_parser("workloads.quantize", __doc__, STATUS)
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("--data", required=True, metavar="FILE.npz|digits|training",
                        help="inputs by name, and labels; training: all data that MODEL was trained with")  # fmt: skip
    parser.add_argument("--target", required=True, metavar="cpu|GPU", help="cpu, or a GPU's name in the catalogue")
    add_arguments(parser, "the published model")
    parser.add_argument(
        "--tracking", metavar="URL", default=os.environ.get(URL, ""), help=f"the MLflow server; or set {URL}"
    )
    parser.add_argument("--register", metavar="NAME", help="register the published model as a version of NAME there")
    parser.add_argument("--alias", help="set this alias on that version, if the account is allowed to")
    parser.add_argument(
        "--publish-slower", metavar="REASON", help="publish a model below gate.speed; REASON goes into its lineage"
    )
    config_file.add_arguments(parser, "calibration=entropy or gate.agreement=0.99")
    return parser


@as_command
def main(argv: list[str] | None = None) -> int:
    args = arguments().parse_args(argv)
    settings = config_file.settings(QuantizeSettings, args)
    if args.publish_slower:
        settings = settings.model_copy(update={"publish_slower": args.publish_slower})
    if args.print:
        print(settings.model_dump_json(indent=2))
        return 0
    return _quantize(args, settings)


def _quantize(args: argparse.Namespace, settings: QuantizeSettings) -> int:
    output = OutputDirectory(args.out, MODEL, args.replace, ".report")
    output.check()  # before the download of a registered model
    from workloads.quantize import versions
    from workloads.quantize.run import quantize

    if args.alias and not args.register:
        raise UserError(
            Diagnostic(
                "--alias",
                f"the alias {args.alias} has no version",
                help="Add --register",
                note="an alias is set when a version is registered",
            )
        )
    model, version = Path(args.model), ""
    registered = args.model.startswith(versions.PREFIX)
    if registered or args.register:
        server = connect(args.tracking, os.environ)
        server.get("registered-models/search", max_results="1")  # fail now, before all the work
    if registered:
        model, fetched_version = versions.fetch(server, args.model, cache_directory())
        version = str(fetched_version)
        _print_line(f"{args.model} is {version}")
    outcome = quantize(model, args.data, args.target, output, settings, _print_line, version)
    where = f"the report is {output.report / 'report.md'}"
    if not outcome.has_passed:
        print(f"not published: {'; '.join(outcome.shortfalls)}; {where}", file=sys.stderr, flush=True)
        return 1
    before, after = outcome.before, outcome.after
    _print_line(f"published {args.out}: {before.bytes / after.bytes:.2f} times smaller, batch 1 "
         f"{describe_speed(before.seconds[1] / after.seconds[1])}, "
         f"rows per second {describe_speed(after.speed(before))}; {where}")  # fmt: skip
    if args.register:
        registered_version = versions.register(server, args.out, output.report, args.register)
        _print_line(f"registered {registered_version} at {server.url}")
        if args.alias:
            versions.set_alias(server, registered_version, args.alias)
            _print_line(f"{registered_version} is now {registered_version.name}@{args.alias}")
    return 0


def describe_speed(ratio: float) -> str:
    """Return *ratio*, of the former time to the new one, in words."""
    return f"{ratio:.2f} times faster" if ratio >= 1 else f"{1 / ratio:.2f} times slower"


def _print_line(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
