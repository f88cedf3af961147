"""Print what a preview of 1, 50 and 200 hosts takes, and what roles cost; the last line of each is for machines.

`python -m benchmarks preview` or `roles` does one of the two. With BENCH_PROFILE=DIRECTORY that gets a profile of each
provider; the figures are then those of profiled ones.
"""

import json
import os
import platform
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from benchmarks import FLOOR_MS, plain, rack, roles, start
from benchmarks.preview import Cost, Project
from rackwright.toolchain import ensure
from tests.support.simulated import SimulatedRack

SIZES = (1, 50, 200)
REPEATS = 3
PARTS = ("engine", "program", "provider", "server", "total")


def main(only: str = "") -> None:
    if only in ("", "preview"):
        preview()
    if only in ("", "roles") and os.geteuid() == 0:  # containers need root
        print(json.dumps(roles.report(*roles.measure(say))))


def preview() -> None:
    say(f"simulating {max(SIZES)} hosts with {rack.PACKAGES} packages and {rack.FILES} files each")
    simulated = SimulatedRack({name: rack.facts(name) for name in rack.names(max(SIZES))})
    with simulated, tempfile.TemporaryDirectory(prefix="rackwright-bench-") as directory:
        project = Project(Path(directory), simulated)
        costs = {count: _measure(project, count) for count in SIZES}
        say("the same answers with plain ssh")
        client, server = plain.seconds(simulated, list(simulated.hosts.values()))
    _report(costs, 1000 * client / max(SIZES), 1000 * server / max(SIZES))


def _measure(project: Project, count: int) -> Cost:
    """Return the one of several previews that is in the middle by its total."""
    say(f"{count} hosts: taking them over as they are")
    project.make(count)
    costs = []
    for number in range(1, REPEATS + 1):
        cost = project.preview(count)
        say(f"{count} hosts: preview {number} of {REPEATS}: {cost.total:.2f} s, {cost.wall:.1f} s by the clock")
        costs.append(cost)
    return sorted(costs, key=lambda cost: cost.total)[REPEATS // 2]


def _report(costs: Mapping[int, Cost], client_ms: float, server_ms: float) -> None:
    milliseconds = {count: {part: 1000 * getattr(cost, part) for part in PARTS} for count, cost in costs.items()}
    fewer, most = sorted(costs)[-2:]
    each = {part: milliseconds[most][part] / most for part in PARTS}
    more = {part: (milliseconds[most][part] - milliseconds[fewer][part]) / (most - fewer) for part in PARTS}
    print("processor milliseconds, user and system, of a preview that finds nothing to do")
    versions = f"Python {platform.python_version()}, pulumi {ensure(say).version}"
    print(f"{platform.machine()}, {os.cpu_count()} processors, Linux {platform.release()}, {versions}")
    print("".join(f"{title:>12}" for title in ("hosts", *PARTS)))
    for count, row in milliseconds.items():
        print(_row(str(count), row, 0))
    print(_row(f"/{most}", each, 1))
    print(_row(f"{fewer}..{most}", more, 1))
    print(f"a host of 3 resources: {each['total']:.1f} ms of {most} hosts; the floor is {FLOOR_MS} ms")
    old_ms = client_ms + server_ms
    print(f"plain ssh, one client for each host, the same answer: {client_ms:.1f} + {server_ms:.1f} ms at the server")
    print(f"ours is {each['total'] / old_ms:.2f} of that; the provider took {costs[most].provider_mib} MiB")
    figures = {
        "hosts": {count: cost.as_json() for count, cost in costs.items()},
        "ms_per_host": round(each["total"], 2),
        "ms_per_further_host": round(more["total"], 2),
        "plain_ssh_ms_per_host": round(old_ms, 2),
        "floor_ms": FLOOR_MS,
    }
    print(json.dumps(figures))


def _row(title: str, values: Mapping[str, float], decimals: int) -> str:
    return f"{title:>12}" + "".join(f"{values[part]:>12.{decimals}f}" for part in PARTS)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    of_roles = {"APPLIED": (), "PREVIEWED": 1, "REPEATS": 1, "ROLES": ("base", "access")}
    start(main, (globals(), {"SIZES": (1, 2), "REPEATS": 1}), (vars(roles), of_roles))
