"""The cost of one more host to the others: `python -m benchmarks.further_host`.

A stack of simulated hosts whose `up` finds nothing to do gets one host more. The old hosts may be probed, but run no
step. The processor time of both, of Pulumi with all that it starts, shows what the new one adds.
"""

import json
import re
import tempfile
from pathlib import Path

from benchmarks import rack, start
from benchmarks.preview import Project
from tests.support.simulated import SimulatedRack

HOSTS = 20
RESOURCES = 4
"""Resources of a host: itself, two tiers, and their component in Pulumi."""
STEPS_MAX = 0
"""Goal: steps that all old hosts together run because of the new one."""


def main() -> None:
    names = rack.names(HOSTS + 1)
    simulated = SimulatedRack({name: rack.facts(name) for name in names})
    with simulated, tempfile.TemporaryDirectory(prefix="rackwright-bench-") as directory:
        project = Project(Path(directory), simulated)
        project.make(HOSTS)
        unchanged, _ = project.up(HOSTS, HOSTS)
        old = [simulated[name] for name in names[:HOSTS]]
        before = sum(len(host.steps) for host in old)
        grown, text = project.up(HOSTS, HOSTS + 1)
        steps = sum(len(host.steps) for host in old) - before
    if not re.search(rf"\b{RESOURCES} created", text):
        raise AssertionError(f"{RESOURCES} resources of the new host had to be created:\n{text}")
    print(f"one more host with {RESOURCES - 1} resources and their component beside {HOSTS} old ones")
    print(f"{'ok' if steps <= STEPS_MAX else 'short':<6} {steps} steps on the old hosts; the goal is {STEPS_MAX}")
    print(f"an up takes {unchanged:.1f} processor seconds without it, {grown:.1f} with it")
    figures = {"hosts": HOSTS, "steps": steps}
    print(json.dumps({**figures, "seconds": round(unchanged, 2), "grown_seconds": round(grown, 2)}))


if __name__ == "__main__":
    start(main, (globals(), {"HOSTS": 1}))
