"""One project with a stack for each size of fleet, and what a preview of it takes."""

import json
import os
import re
import shutil
import subprocess
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import rack as made
from rackwright.toolchain import ensure, environment, prepare
from tests.support.simulated import SimulatedRack

ROOT = Path(__file__).parents[1]
HOOK = Path(__file__).with_name("hook")
PROJECT = """\
name: rackwright
runtime: {name: python, options: {virtualenv: .venv}}
stackConfigDir: stacks
plugins: {providers: [{name: rackwright, path: .rackwright/bin}]}
"""
PROGRAM, PROVIDER = "pulumi-language-python-exec", "rackwright.provider"


@dataclass(frozen=True)
class Cost:
    """Processor seconds, user and system."""

    engine: float
    """Pulumi, its language host, and what that asks of Python and pip."""
    program: float
    provider: float
    server: float
    """sshd and the command it runs, of all hosts."""
    wall: float
    """Not judged: it depends on what else the computer does."""
    provider_mib: int
    """The most memory it had."""

    @property
    def total(self) -> float:
        return self.engine + self.program + self.provider + self.server

    def as_json(self) -> dict[str, float]:
        return {name: round(value, 3) for name, value in {**asdict(self), "total": self.total}.items()}


class Project:
    """A project over *rack* in *directory*."""

    def __init__(self, directory: Path, rack: SimulatedRack) -> None:
        self.directory, self._rack = directory, rack
        (directory / "stacks").mkdir()
        (directory / "Pulumi.yaml").write_text(PROJECT)
        shutil.copy(ROOT / "__main__.py", directory)
        (directory / ".venv").symlink_to(ROOT / ".venv")
        prepare(directory)
        made.keep_salt(directory)
        own = {"PULUMI_CONFIG_PASSPHRASE": "of this bench"}
        self._environment = os.environ | own | environment(directory, ensure(print), os.environ)

    def make(self, count: int) -> None:
        """Take the first *count* hosts over into the state of their stack, as they are."""
        fleet, stack = self.directory / "stacks" / f"fleet-{count}.yaml", _stack(count)
        settings = {"rackwright:fleet": fleet.name, "rackwright:target": "rack"}
        (fleet.parent / f"Pulumi.{stack}.yaml").write_text(json.dumps({"config": settings}))
        self._pulumi("stack", "init", stack)
        self.up(count, count)

    def up(self, count: int, hosts: int) -> tuple[float, str]:
        """Return processor seconds and output of an `up` of the stack of *count* hosts, which now has *hosts*."""
        fleet = self.directory / "stacks" / f"fleet-{count}.yaml"
        declared = [self._rack[name] for name in made.names(hosts)]
        fleet.write_text(made.fleet(self._rack, declared))
        fleet.with_suffix(".known_hosts").write_text("".join(host.pin for host in declared))
        return self._pulumi("up", "--yes", "--skip-preview", "--stack", _stack(count))

    def preview(self, count: int) -> Cost:
        """Return what a preview takes that finds nothing to do."""
        before, began = self._rack.cpu_seconds(), time.monotonic()
        noted = self.directory / "usage"
        noted.unlink(missing_ok=True)
        total, text = self._pulumi(
            "preview", "--expect-no-changes", "--stack", _stack(count), BENCH_USAGE=str(noted), PYTHONPATH=str(HOOK)
        )
        wall = time.monotonic() - began
        unchanged = re.search(r"(\d+) unchanged", text)
        wanted = 4 * count + 2  # host, two tiers and their component; the rack and the stack
        if unchanged is None or int(unchanged[1]) != wanted or "warning" in text:
            raise AssertionError(f"{wanted} resources had to be unchanged, without a warning:\n{text}")
        processes = [json.loads(line) for line in noted.read_text().splitlines()]
        program, *others = _of(PROGRAM, processes)
        providers = _of(PROVIDER, processes)
        if others or not providers:
            raise AssertionError(f"one program and its provider were expected: {processes}")
        provider = sum(process["seconds"] for process in providers)
        server = self._rack.cpu_seconds() - before
        engine = total - program["seconds"] - provider
        memory = max(process["kib"] for process in providers) // 1024
        return Cost(engine, program["seconds"], provider, server, wall, memory)

    def _pulumi(self, *arguments: str, **variables: str) -> tuple[float, str]:
        """Return the processor seconds of pulumi and all it started, and what it printed; it has to end well."""
        log = self.directory / "log"
        with log.open("w+") as output:
            process = subprocess.Popen(
                ["pulumi", "--non-interactive", "--color=never", *arguments],
                cwd=self.directory, env=self._environment | variables, stdout=output, stderr=output,
            )  # fmt: skip
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            text = log.read_text()
        if status != 0:
            raise AssertionError(f"pulumi {' '.join(arguments)} ended with {process.returncode}:\n{text[-4000:]}")
        return used.ru_utime + used.ru_stime, text


def _of(mark: str, processes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [process for process in processes if any(mark in argument for argument in process["argv"])]


def _stack(count: int) -> str:
    return f"hosts-{count}"
