"""Line 6: what a look at a host of 24 drives and 3,000 packages costs."""

import json
import sys
from typing import Any

from tests.accept.harness import Log, check, need


@check("storage-life.6[probe]")
def a_look_is_measured(log: Log) -> str:
    told = _told(log, "probe")
    figures = ", ".join(f"{case} {figure:.0f}" for case, figure in told["ms"].items())
    return f"processor ms, recorded: {figures}; the large one is {told['of_small']} of the small one"


def _told(log: Log, bench: str) -> dict[str, Any]:
    """Return the last line of a bench; no figure is too large."""
    log(f"tests.bench.{bench}")
    done = log.run([sys.executable, "-m", f"tests.bench.{bench}"])
    need(done.returncode == 0, f"it ended with {done.returncode}: {done.stderr[-500:]}")
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told
