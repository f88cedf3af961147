"""Check on this machine what needs a GPU, and print the figures. `make gpu` does the same.

    python -m tests.gpu --json run.json
    python -m tests.gpu --only nccl,digits
    python -m tests.gpu --stage 2                  the checks of the second stage alone
    python -m tests.gpu --verified                 write the table of docs/verified.md from tests/gpu/runs

A run has two stages, the important checks first; the second one has the time that remains. Without an NVIDIA GPU the
hardware checks are skipped, and the checks for processors run. Each check has a process and a time limit of its own, so
a crash or a hang loses nothing. Checks that the end of the run cuts off are reported as not run, and the last lines
name what was not done. The command itself needs Python's own library alone. Missing packages are reported by the checks
that need them.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.gpu import machine, report
from tests.gpu.check import Check, Outcome
from tests.gpu.runner import ROOT, child_command, run_all

SECONDS = 480
"""Time limit of a run."""
RUNS, PAGE = Path(__file__).with_name("runs"), ROOT / "docs" / "verified.md"
STATUS = "Exit status: 0 no check failed, 1 a check failed, 2 wrong input."


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.gpu", description=__doc__, epilog=STATUS, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE", help="write machine, figures and results to FILE")
    parser.add_argument("--seconds", type=float, default=SECONDS, help=f"time limit of the run (default: {SECONDS})")
    parser.add_argument("--only", default="", metavar="NAMES", help="names of checks, separated by commas")
    parser.add_argument("--stage", type=int, choices=(1, 2), help="run the checks of one stage alone")
    parser.add_argument("--list", action="store_true", help="print names and subjects of the checks")
    parser.add_argument("--verified", action="store_true", help="write the table of docs/verified.md")
    args = parser.parse_args(argv)
    if args.verified:
        PAGE.write_text(report.replace_rows(PAGE.read_text(), report.verified_rows(report.recorded_runs(RUNS))))
        return 0
    from tests.gpu.checks import CHECKS

    checks = [each for each in _select(CHECKS, args.only, parser) if args.stage in (None, each.stage)]
    if args.list:
        print("\n".join(f"{each.name:{report.NAMES}}{each.what}" for each in checks))
        return 0
    return _run(checks, args.seconds, args.json)


def _select(checks: Sequence[Check], only: str, parser: argparse.ArgumentParser) -> list[Check]:
    names = [each.name for each in checks]
    chosen = [name.strip() for name in only.split(",") if name.strip()]
    if wrong := [name for name in chosen if name not in names]:
        parser.error(f"--only: no check {', '.join(wrong)}; the checks are {', '.join(names)}")
    return [each for each in checks if not chosen or each.name in chosen]


def _run(checks: Sequence[Check], seconds: float, file: Path | None) -> int:
    deadline = time.monotonic() + seconds
    gpus = machine.gpus()
    here = {
        "gpus": gpus, **machine.describe(), "commit": _commit(),
        "taken_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "on_processor": [each.name for each in checks if not each.gpus],
    }  # fmt: skip
    outcomes: list[Outcome] = []

    def keep(outcome: Outcome) -> None:
        outcomes.append(outcome)
        print(f"{outcome.name}: {outcome.status} {outcome.reason}".strip(), file=sys.stderr, flush=True)
        if file:  # after each check: a run that is killed has written what it measured
            file.write_text(report.to_json(here, outcomes))

    run_all(checks, len(gpus), deadline, child_command, keep)
    print(report.table(here, outcomes), flush=True)
    return int(any(each.status == "failed" for each in outcomes))


def _commit() -> str:
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return done.stdout.strip() or "unknown"


if __name__ == "__main__":
    sys.exit(main())
