"""Quantise a model for the processor it will run on, and publish it if it keeps its accuracy.

    python -m workloads.quantize out/ --data digits --target cpu --out published/digits
    python -m workloads.quantize model.onnx --data rows.npz --target t4 --out published/model
    python -m workloads.quantize out/ --data digits --target cpu --out published/fp32 --set precision=fp32
    python -m workloads.quantize models:/digits@champion --data digits --target cpu --out published/digits \\
        --tracking https://tracking.example:5000 --register digits-int8

MODEL is a directory of `python -m workloads.training`, a published model, an ONNX file, or a version that the MLflow
server has; the account comes from where `python -m workloads.tracking` has it. The data are divided by a
hash of their rows: some calibrate, some search for layers that cost accuracy, and those held out judge. DIR is what
`python -m workloads.serving` serves; DIR.report has report.json, report.md and report.svg, published or not.
"""

import argparse
import os
import sys
from pathlib import Path

from workloads import config_file
from workloads.command_line import new_parser
from workloads.errors import WorkloadError
from workloads.quantize.config import Settings
from workloads.tracking.registry import kept
from workloads.tracking.server import URL, connect

STATUS = "Exit status: 0 published, 1 below the gate or the model is damaged, 2 wrong or refused, 3 server not reached."


def arguments() -> argparse.ArgumentParser:
    parser = new_parser("workloads.quantize", __doc__, STATUS)
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("--data", required=True, metavar="FILE.npz|digits|training",
                        help="inputs by name, and labels; or all that MODEL, a training, was trained with")  # fmt: skip
    parser.add_argument("--target", required=True, metavar="cpu|GPU", help="cpu, or a GPU's name in the catalogue")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="where it is published")
    parser.add_argument(
        "--tracking", metavar="URL", default=os.environ.get(URL, ""), help=f"an MLflow server; or {URL}"
    )
    parser.add_argument("--register", metavar="NAME", help="let what was published be a version of NAME there")
    parser.add_argument("--alias", help="let that version have this alias, if the account may say so")
    config_file.add_arguments(parser, "calibration=entropy or gate.agreement=0.99")
    return parser


def main(argv: list[str] | None = None) -> int:
    given = arguments().parse_args(argv)
    try:
        settings = config_file.settings(Settings, given)
        if given.print:
            print(settings.model_dump_json(indent=2))
            return 0
        return _quantize(given, settings)
    except WorkloadError as error:
        print(error, file=sys.stderr, flush=True)
        return error.exit_status


def _quantize(given: argparse.Namespace, settings: Settings) -> int:
    from workloads.quantize import versions
    from workloads.quantize.run import quantize

    if given.alias and not given.register:
        raise WorkloadError("--alias", f"got {given.alias}", "a version gets one as it is registered", "Say --register")
    what, version = Path(given.model), ""
    registered = given.model.startswith(versions.BEGINS)
    if registered or given.register:
        server = connect(given.tracking, os.environ)
        server.get("registered-models/search", max_results="1")  # now, and not when all the work is done
    if registered:
        what, found = versions.fetch(server, given.model, kept())
        version = str(found)
        _say(f"{given.model} is {version}")
    told = quantize(what, given.data, given.target, given.out, settings, _say, version)
    report = given.out.with_name(f"{given.out.name}.report")
    where = f"the report is {report / 'report.md'}"
    if not told.passed:
        print(f"not published: {'; '.join(told.shortfalls)}; {where}", file=sys.stderr, flush=True)
        return 1
    before, after = told.before, told.after
    _say(f"published {given.out}: {before.bytes / after.bytes:.2f} times smaller, batch 1 "
         f"{before.seconds[1] / after.seconds[1]:.2f} times faster; {where}")  # fmt: skip
    if given.register:
        made = versions.register(server, given.out, report, given.register)
        _say(f"{made} is registered at {server.url}")
        if given.alias:
            versions.call(server, made, given.alias)
            _say(f"{made} is {made.name}@{given.alias}")
    return 0


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
