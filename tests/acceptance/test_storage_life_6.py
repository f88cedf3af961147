"""Line 6: what a look at 24 drives and 3,000 packages costs; replacing and growing beside mdadm by hand."""

import json
import sys
from typing import Any

from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.log import Log


@line("storage-life", 6, part="probe")
def test_a_probe_of_24_drives_is_measured(log: Log) -> str:
    report = _measure(log, "probe")
    figures = ", ".join(f"{case} {figure:.0f}" for case, figure in report["ms"].items())
    return f"processor ms, recorded: {figures}; the large one is {report['of_small']} of the small one"


@line("storage-life", 6, part="drives")
def test_replacing_and_growing_are_measured_beside_mdadm(log: Log) -> str:
    """On one virtual machine; md's own time is on neither side."""
    report = _measure(log, "drives")
    changes = "; ".join(
        f"{verb}: up {change['up_seconds']:.1f}, by hand {change['by_hand_seconds']:.1f}, {change['ratio']} times"
        for verb, change in report.items()
    )
    return f"seconds: {changes}"


def _measure(log: Log, bench: str) -> dict[str, Any]:
    """Return the last line of a bench; no figure is too large."""
    log(f"benchmarks.{bench}")
    done = log.run([sys.executable, "-m", f"benchmarks.{bench}"])
    need(done.returncode == 0, f"it ended with {done.returncode}: {done.stderr[-500:]}")
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report
