"""What roles cost on containers: one run of Ansible for one host or for many; a preview that finds nothing to do."""

import json
import os
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import children_seconds
from benchmarks.preview import HOOK, PROGRAM, PROVIDER
from tests.support.access_rack import access, fleet
from tests.support.lab import Lab
from tests.support.log import Log

APPLIED, PREVIEWED = (1, 20), 40
"""On how many hosts the roles are played, and how many are previewed."""
ROLES = ("base", "access", "rdma", "container_runtime", "node_exporter")
"""Roles that need no hardware."""
REPEATS = 3
AIM_SECONDS = 10
RUNNER = "ansible-playbook"


@dataclass(frozen=True)
class Applied:
    """The first `up` of some hosts."""

    hosts: int
    roles: int
    runs: int
    """Of Ansible: one private directory each."""
    tasks: float
    """Modules that Ansible ran on a host, by the host's own journal."""
    ansible: float
    """Processor seconds of Ansible, all its processes."""
    served: float
    """Processor seconds of all hosts meanwhile."""
    wall: float

    @property
    def ansible_ms(self) -> float:
        """Milliseconds of this computer's processor for a task on a host."""
        return 1000 * self.ansible / self.hosts / self.tasks

    @property
    def served_ms(self) -> float:
        return 1000 * self.served / self.hosts / self.tasks


@dataclass(frozen=True)
class Previewed:
    """A preview that finds nothing to do, in processor seconds."""

    engine: float
    program: float
    provider: float
    served: float
    wall: float


class Hosts:
    """Containers with ROLES."""

    def __init__(self, directory: Path, count: int) -> None:
        self.names = [f"node-{number:02}" for number in range(1, count + 1)]
        variables: dict[str, dict[str, Any]] = {
            "base": {"security_updates": False},
            "access": access(directory / "keys") | {"people": []},
            "rdma": {"unverified": "accepted"},
            "container_runtime": {"engine": "containerd"},
            "node_exporter": {},
        }
        self.roles = {name: variables[name] for name in ROLES}
        declared = fleet(self.names, self.roles, rollout={"canary": count, "batch": "100%"})
        self.lab = Lab(directory / "project", declared, Log(f"bench-{count}"), containers=self.names, mirrors=True)
        self._usage = directory / "usage"

    def up(self) -> Applied:
        began, processes = self._measured(lambda: self.lab.pulumi("up", "--yes", "--skip-preview", status=0))
        runners = [process for process in processes if any(RUNNER in part for part in process["argv"])]
        runs = {tuple(process["argv"]) for process in runners}
        count = "journalctl --quiet --output cat | grep -c 'Invoked with'"
        tasks = sum(int(self.lab.ssh(name, count)) for name in self.names) / len(self.names)
        ansible = sum(process["seconds"] for process in runners)
        return Applied(len(self.names), len(self.roles), len(runs), tasks, ansible, began.served, began.wall)

    def preview(self) -> Previewed:
        began, processes = self._measured(lambda: self.lab.pulumi("preview", "--expect-no-changes", status=0))
        parts = {
            part: sum(each["seconds"] for each in processes if any(mark in word for word in each["argv"]))
            for part, mark in (("program", PROGRAM), ("provider", PROVIDER))
        }
        engine = began.children - sum(parts.values())
        return Previewed(engine, **parts, served=began.served, wall=began.wall)

    def _measured(self, work: Callable[[], Any]) -> tuple["_Spent", list[dict[str, Any]]]:
        self._usage.unlink(missing_ok=True)
        self.lab.environment |= {"BENCH_USAGE": str(self._usage), "PYTHONPATH": str(HOOK)}
        children, served, began = children_seconds(), self._served(), self.lab.log.seconds
        work()
        wall = self.lab.log.seconds - began
        spent = _Spent(children_seconds() - children, self._served() - served, wall)
        return spent, [json.loads(line) for line in self._usage.read_text().splitlines()]

    def _served(self) -> float:
        """Return the processor seconds that all hosts have taken so far."""
        texts = (self.lab.ssh(name, "cat /sys/fs/cgroup/cpu.stat") for name in self.names)
        return sum(int(re.findall(r"usage_usec (\d+)", text)[0]) for text in texts) / 1e6


@dataclass(frozen=True)
class _Spent:
    children: float
    served: float
    wall: float


def measure(say: Callable[[str], None]) -> tuple[Sequence[Applied], Previewed]:
    """Return what roles cost; the preview is that in the middle of several by its time."""
    applied = []
    for count in (*APPLIED, PREVIEWED):
        with tempfile.TemporaryDirectory(prefix="rackwright-bench-") as directory:
            hosts = Hosts(Path(directory), count)
            with hosts.lab:
                hosts.lab.start()
                hosts.lab.pulumi("stack", "init", status=0)
                say(f"{count} containers: up")
                applied.append(hosts.up())
                if count == PREVIEWED:
                    say(f"{count} containers: {REPEATS} previews")
                    previews = sorted((hosts.preview() for _ in range(REPEATS)), key=lambda each: each.wall)
    return applied, previews[REPEATS // 2]


def report(applied: Sequence[Applied], previewed: Previewed) -> dict[str, Any]:
    """Print it, and return it as plain data."""
    print(f"roles on containers, {os.cpu_count()} processors for the hosts as well")
    print("".join(f"{title:>14}" for title in ("hosts", "roles", "runs", "tasks/host", "ansible ms", "host ms", "s")))
    for each in applied:
        figures = (f"{each.tasks:.0f}", f"{each.ansible_ms:.0f}", f"{each.served_ms:.0f}", f"{each.wall:.0f}")
        print("".join(f"{figure:>14}" for figure in (each.hosts, each.roles, each.runs, *figures)))
    print("ansible ms, host ms: of processor, for one task on one host")
    parts = ", ".join(f"{part} {seconds:.1f}" for part, seconds in asdict(previewed).items() if part != "wall")
    print(f"a preview of {PREVIEWED} hosts that finds nothing to do: {previewed.wall:.1f} s; aim {AIM_SECONDS} s")
    print(f"processor seconds of it: {parts} (the hosts' are taken on this computer too)")
    applied_roles = [asdict(each) | {"ansible_ms": each.ansible_ms, "host_ms": each.served_ms} for each in applied]
    return {"applied": applied_roles, "preview": asdict(previewed)}
