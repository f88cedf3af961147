"""The client's cost of an audit of many hosts behind real sshds: `python -m benchmarks.live_audit`.

The hosts of `benchmarks.rack`, which are as declared: a host and two tiers each, 3,000 packages and 2,000 files. Each
has an sshd of its own on loopback, whose processor time is left out: in a rack, the hosts spend it. Beside the audit
runs the least that it can be, in turns: paramiko, which sends the same probe to each host and decodes the same answer.
"""

import json
import os
import shlex
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks import Used, rack, run, start
from benchmarks.audit import PROGRAM
from rackwright.facts import probe
from tests.support.simulated import SimulatedRack

HOSTS, ROUNDS = 500, 3
RATIO_MAX, SECONDS_MAX, MEMORY_MB_MAX = 1.5, 8, 300
"""Goals: the ratio to paramiko with decoding, the seconds for 500 hosts, and the memory for 1,000.

The seconds are those of the client's processor. An audit takes as long by the clock on an idle computer, because Python
runs one thread at a time."""
PEER = Path(__file__).parent / "peers" / "by_paramiko.py"


class RackFacts(Mapping[str, Any]):
    """The facts of all hosts, made one after the other: together they would take a gigabyte."""

    def __init__(self, count: int) -> None:
        self._names = rack.names(count)

    def __getitem__(self, name: str) -> Any:
        return rack.facts(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def main() -> None:
    simulated = SimulatedRack(RackFacts(HOSTS))
    with simulated, tempfile.TemporaryDirectory(prefix="rackwright-bench-") as directory:
        project = Path(directory)
        write(project, simulated)
        ours = (str(PROGRAM), "audit", "measured", "--json")
        theirs = (sys.executable, str(PEER), write_job(project, simulated))
        environment = {name: value for name, value in os.environ.items() if name != "RACKWRIGHT_SALT_FILE"}
        # 3: the recorded facts do not answer all rules about undeclared things
        rounds = [[run(argv, project, environment, (0, 3)) for argv in (ours, theirs)] for _ in range(ROUNDS)]
    document = json.loads(rounds[0][0].stdout)
    wrong = [each["name"] for each in document["resources"] if each["not_reached"] or each["differences"]]
    if wrong or len(document["resources"]) != 3 * HOSTS:
        raise AssertionError(f"{3 * HOSTS} resources had to be as declared, but not {', '.join(wrong[:5])}")
    _report(*(sorted(each, key=lambda used: used.seconds)[ROUNDS // 2] for each in zip(*rounds, strict=True)))


def write(project: Path, simulated: SimulatedRack) -> None:
    """Write the project of a stack `measured` with all hosts of *simulated*."""
    (project / "stacks").mkdir()
    (project / "Pulumi.yaml").write_text("name: rackwright\nruntime: python\n")
    settings = {"config": {"rackwright:fleet": "fleet.yaml", "rackwright:target": "rack"}}
    (project / "stacks/Pulumi.measured.yaml").write_text(json.dumps(settings))
    (project / "stacks/fleet.yaml").write_text(rack.fleet(simulated, simulated.hosts.values()))
    (project / "stacks/fleet.known_hosts").write_text("".join(host.pin for host in simulated.hosts.values()))
    rack.keep_salt(project)


def write_job(project: Path, simulated: SimulatedRack) -> str:
    """Write what `benchmarks/peers/by_paramiko.py` needs, and return the path of its file."""
    (project / "probe").write_bytes(probe.stdin(b"salt"))
    job = {
        "user": simulated.user,
        "key": str(simulated.key),
        "command": shlex.join(probe.command()),
        "stdin": str(project / "probe"),
        "hosts": [
            {"address": host.address, "port": host.port, "pin": host.host_key} for host in simulated.hosts.values()
        ],
    }
    path = project / "hosts.json"
    path.write_text(json.dumps(job))
    return str(path)


def _report(ours: Used, theirs: Used) -> None:
    ratio, per_host = ours.seconds / theirs.seconds, 1000 * ours.seconds / HOSTS
    print(f"{HOSTS} hosts behind sshd, medians of {ROUNDS} rounds; processor time and memory of the client alone")
    print(f"rackwright audit: {ours.seconds:.1f} s, {per_host:.1f} ms a host, {ours.megabytes:.0f} MB")
    print(f"paramiko with decoding: {theirs.seconds:.1f} s, {1000 * theirs.seconds / HOSTS:.1f} ms a host")
    for figure, text, goal in (
        (ratio, "times paramiko with decoding", RATIO_MAX),
        (ours.seconds, f"processor seconds for {HOSTS} hosts", SECONDS_MAX),
        (ours.megabytes, "MB of memory", MEMORY_MB_MAX),
    ):
        print(f"{'ok' if figure <= goal else 'short':<6} {figure:.1f} {text}; the goal is {goal}")
    figures = {"hosts": HOSTS, "ms_per_host": round(per_host, 2), "ratio": round(ratio, 2)}
    print(json.dumps({**figures, "seconds": round(ours.seconds, 2), "memory_mb": round(ours.megabytes)}))


if __name__ == "__main__":
    start(main, (globals(), {"HOSTS": 2, "ROUNDS": 1}))
