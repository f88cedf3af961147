"""Line 8: what a preview that finds nothing to do costs a host."""

import json
import sys

from benchmarks import FLOOR_MS
from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.log import Log


@line("foundation", 8)
def test_a_preview_without_changes_is_cheap(log: Log) -> str:
    """The processor time of all processes together, for each of 200 hosts."""
    log("previewing 1, 50 and 200 simulated hosts")
    done = log.run([sys.executable, "-m", "benchmarks", "preview"])
    need(done.returncode == 0, f"the bench ended with {done.returncode}: {done.stderr[-500:]}")
    report = json.loads(done.stdout.splitlines()[-1])
    cost = report["ms_per_host"]
    need(cost <= FLOOR_MS, f"{cost} ms of processor time for a host of 3 resources, at most {FLOOR_MS}")
    of_ssh = cost / report["plain_ssh_ms_per_host"]
    return f"{cost} ms of processor time for a host of 3 resources, {of_ssh:.1f} times what plain ssh takes"
