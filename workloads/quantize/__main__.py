"""Quantise a model for the processor it will run on, and publish it if it keeps its accuracy.

    python -m workloads.quantize out/ --data digits --target cpu --out published/digits
    python -m workloads.quantize model.onnx --data rows.npz --target t4 --out published/model
    python -m workloads.quantize out/ --data digits --target cpu --out published/fp32 --set precision=fp32

MODEL is a directory of `python -m workloads.training`, a published model, or an ONNX file. The data are divided by a
hash of their rows: some calibrate, some search for layers that cost accuracy, and those held out judge. DIR is what
`python -m workloads.serving` serves; DIR.report has report.json, report.md and report.svg, published or not.
"""

import argparse
import sys
from pathlib import Path

from workloads.common import reading
from workloads.common.errors import WorkloadError
from workloads.quantize.config import Settings

STATUS = "Exit status: 0 published, 1 below the gate or the model is damaged, 2 wrong or refused."


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m workloads.quantize",
        description=__doc__,
        epilog=STATUS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("model", metavar="MODEL", type=Path)
    parser.add_argument("--data", required=True, metavar="FILE.npz|digits", help="inputs by name, and labels")
    parser.add_argument("--target", required=True, metavar="cpu|GPU", help="cpu, or a GPU's name in the catalogue")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="where it is published")
    reading.add_arguments(parser, "calibration=entropy or gate.agreement=0.99")
    return parser


def main(argv: list[str] | None = None) -> int:
    given = arguments().parse_args(argv)
    try:
        settings = reading.settings(Settings, given)
        if given.print:
            print(settings.model_dump_json(indent=2))
            return 0
        from workloads.quantize.run import quantize

        told = quantize(
            given.model, given.data, given.target, given.out, settings, lambda text: print(text, flush=True)
        )
    except WorkloadError as error:
        print(error, file=sys.stderr, flush=True)
        return error.exit_status
    where = f"the report is {given.out}.report/report.md"
    if not told.passed:
        print(f"not published: {'; '.join(told.shortfalls)}; {where}", file=sys.stderr, flush=True)
        return 1
    before, after = told.before, told.after
    print(f"published {given.out}: {before.bytes / after.bytes:.2f} times smaller, batch 1 "
          f"{before.seconds[1] / after.seconds[1]:.2f} times faster; {where}", flush=True)  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
