"""The cost of hosts that hang to an audit: `python -m benchmarks.hanging`.

The sshd of such a host lets the audit in, and its probe never ends. The audit waits for it once, beside all others.
"""

import json
import os
import tempfile
from pathlib import Path

from benchmarks import live_audit, run, start
from benchmarks.audit import PROGRAM
from rackwright.hosts.pool import PROBE_SECONDS
from tests.support.simulated import SimulatedRack

HOSTS, HANGING = 20, 2
TIMEOUTS_MAX = 1.0
"""Goal for the time by the clock that hosts that hang add, in timeouts of the probe."""
SLACK_SECONDS = 5
"""For the noise of two runs: their times are compared by the clock, which other work on the computer moves."""


def main() -> None:
    simulated = SimulatedRack(live_audit.RackFacts(HOSTS))
    with simulated, tempfile.TemporaryDirectory(prefix="rackwright-bench-") as directory:
        project = Path(directory)
        live_audit.write(project, simulated)
        environment = {name: value for name, value in os.environ.items() if name != "RACKWRIGHT_SALT_FILE"}
        argv = (str(PROGRAM), "audit", "measured", "--json")
        healthy = run(argv, project, environment, (0, 3))
        for host in [*simulated.hosts.values()][:HANGING]:
            (host.directory / "answer").write_text("exec sleep 3600\n")
        hanging = run(argv, project, environment, (0, 3))
    not_reached = {each["host"] for each in json.loads(hanging.stdout)["findings"] if each["state"] == "not reached"}
    if len(not_reached) != HANGING:
        raise AssertionError(f"{HANGING} hosts had to hang, and not {', '.join(not_reached) or 'none'}")
    added = hanging.wall_seconds - healthy.wall_seconds
    timeouts = max(added - SLACK_SECONDS, 0) / PROBE_SECONDS
    print(
        f"{HOSTS} hosts, of which {HANGING} hang: {added:.0f} s more by the clock, {PROBE_SECONDS:.0f} s is a timeout"
    )
    print(f"{'ok' if timeouts <= TIMEOUTS_MAX else 'short':<6} {timeouts:.2f} timeouts; the goal is {TIMEOUTS_MAX:.0f}")
    figures = {"hosts": HOSTS, "hanging": HANGING, "timeouts": round(timeouts, 2), "added_seconds": round(added, 1)}
    print(json.dumps({**figures, "processor_seconds": round(hanging.seconds - healthy.seconds, 2)}))


if __name__ == "__main__":
    start(main, (globals(), {"HOSTS": 2, "HANGING": 0}))
