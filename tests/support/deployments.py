"""A whole deployment on its twin: the project of `rackwright init --example`, and the commands of an operator."""

import base64
import io
import json
import os
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from ruamel.yaml import YAML

from rackwright.cli.init import TOOLS, Example
from rackwright.toolchain import choose
from tests.support.access_rack import Rack
from tests.support.expect import need
from tests.support.lab import Lab
from tests.support.log import ROOT, Log
from tests.support.peak_memory import PeakMemory
from tests.support.workloads import python

Change = Callable[[Any], None]


def _smaller_hospital(fleet: Any) -> None:
    """Leave out bonds, which kernels of small virtual machines do not have."""
    fleet["groups"]["servers"]["network"] = {"fabric": "port0"}
    for host in fleet["hosts"].values():
        host["nics"][0]["addresses"] = host.pop("network")["bonds"]["fabric"]["addresses"]


SMALLER: dict[str, Change] = {"hospital": _smaller_hospital}
"""Changes of the fleets for two processors and 24 GB, by the name of the example."""


def _edit(path: Path, change: Change) -> None:
    yaml = YAML()
    content = yaml.load(path)
    change(content)
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(content, file)


class Deployment(Lab):
    """The project of the example *name*; `models` is its stack of runs and servers."""

    memory: PeakMemory
    """The memory that the twin and all commands take."""

    def __init__(self, log: Log, name: str) -> None:
        directory = log.empty_directory() / "project"
        program = str(ROOT / ".venv/bin/rackwright")
        done = log.run([program, "init", str(directory), "--example", name])
        need(done.returncode == 0, f"init ended with {done.returncode}: {done.stderr.strip()[-200:]}")
        self.written = {line.split()[1] for line in done.stdout.splitlines() if line.startswith("wrote")}
        self.directory, self.stack, self.log = directory, name, log
        self.models = f"{name}-models"
        self.target = f"twin:{name}"
        self.fleet_path = directory / "stacks" / name / f"{name}.yaml"
        self.models_path = self.fleet_path.with_name("models.yaml")
        (directory / ".venv").symlink_to(ROOT / ".venv")
        self._twins = {}
        self.environment = dict(os.environ)
        self.programs = ROOT / ".venv/bin"

    def edit_models(self, change: Change) -> None:
        """Change the file of runs and servers. *change* gets its content as a mapping."""
        _edit(self.models_path, change)

    def set(self, setting: str, value: Any) -> None:
        """Write a setting of the stack of hosts, such as `environments`."""

        def change(settings: Any) -> None:
            settings["config"][f"rackwright:{setting}"] = value

        _edit(self.directory / f"stacks/Pulumi.{self.stack}.yaml", change)

    def train(self, run: str, host: str, directory: str, changes: dict[str, Any]) -> int:
        """Train by *run* alone, stopped once in between, and return the step from which it went on.

        The servers and other runs are back in the file afterwards; the model of one may come from this training.

        Args:
            host: The host with the *directory* of the run.
            changes: Further values of the run's `set`.
        """
        self.log(f"training {run}, which is stopped and goes on")
        servers: dict[str, Any] = {}
        others: dict[str, Any] = {}

        def only_the_run(fleet: Any) -> None:
            servers.update(fleet.pop("servers"))
            others.update({name: each for name, each in fleet["runs"].items() if name != run})
            fleet["runs"] = {run: fleet["runs"][run]}
            fleet["runs"][run].setdefault("set", {}).update(changes)

        def whole(fleet: Any) -> None:
            fleet["servers"] = servers
            fleet["runs"].update(others)

        self.edit_models(only_the_run)
        self.rackwright("up", self.models, status=0)
        self.rackwright("run", "stop", self.models, run, status=0)
        stopped = self._step(run)
        self.rackwright("up", self.models, status=0)
        self.rackwright("run", "wait", self.models, run, status=0)
        need(self._step(run) > stopped > 0, f"{run} was stopped at step {stopped}, and is at {self._step(run)}")
        lines = self.ssh(host, f"cat {directory}/metrics.jsonl").splitlines()
        steps = [json.loads(text)["step"] for text in lines if '"step"' in text]
        need(steps == sorted(steps), f"steps of {run} came twice: {steps}")
        self.edit_models(whole)
        return stopped

    def _step(self, run: str) -> int:
        return int(json.loads(self.rackwright("run", "status", self.models, run, "--json").stdout)["step"])

    def workload(self, *arguments: str, status: int = 0) -> str:
        """Run a module of the workloads in the project, and return what it prints."""
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        done = self.log.run([python(self.log), "-m", *arguments], self.directory, environment, timeout=1800)
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        need(done.returncode == status, f"{arguments[0]} ended with {done.returncode}, wanted {status}: {last}")
        return done.stdout

    def send(self, host: str, source: Path, target: str) -> None:
        """Copy a file or directory of this computer to *target* on a host, readable for all accounts."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as archive:
            archive.add(source, PurePosixPath(target).name)
        text = base64.b64encode(packed.getvalue()).decode()
        parent = PurePosixPath(target).parent
        script = f"mkdir -p {parent}\nbase64 -d <<'END' | tar -C {parent} --no-same-owner -xz\n{text}\nEND\n"
        self.ssh(host, f"{script}chmod -R a+rX {target}")

    def copy(self, host: str, source: str, target: Path) -> None:
        """Copy the directory *source* of a host to *target* on this computer."""
        packed = base64.b64decode(self.ssh(host, f"tar -C {source} -cz . | base64 -w0"))
        with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
            archive.extractall(target, filter="data")

    def network_namespace(self, host: str) -> Path:
        """Return the file of the network namespace of a host that is a container."""
        chassis = int(self.twin.layout.power_file(host).read_text())
        return Path(f"/proc/{chassis}/ns/net")

    def enrol(self, person: str) -> None:
        """Give *person* a second factor in a terminal, as the page of role `access` says."""
        status, text = Rack(self, self.directory, "").try_to_enrol(person)
        need(status == 0, f"enrol of {person} ended with {status}: {text.strip()[-200:]}")


@contextmanager
def _more_watches() -> Iterator[None]:
    """Raise the limit of root's inotify instances to what the nodes of the bank need, as its tutorial does."""
    limit = Path("/proc/sys/fs/inotify/max_user_instances")
    before = limit.read_text()
    limit.write_text(str(max(int(before), 512)))
    try:
        yield
    finally:
        limit.write_text(before)


@contextmanager
def deployment(log: Log, name: str, prepare: Callable[[Deployment], None] = lambda lab: None) -> Iterator[Deployment]:
    """Yield the project of the example *name* with its twin on, before the first `up`.

    Args:
        prepare: Changes of the project before the twin starts.
    """
    if os.geteuid() != 0:
        pytest.skip("containers need root")
    choose.ensure(log.write)
    with _more_watches(), PeakMemory() as memory, Deployment(log, name) as lab:
        lab.memory = memory
        done = lab.rackwright("check", lab.models, status=0)
        need(done.stdout.rstrip().endswith("no errors"), f"check of {lab.models} says {done.stdout[-200:]}")
        if smaller := SMALLER.get(name):
            lab.edit(smaller)
        prepare(lab)
        done = lab.rackwright("check", name, status=2)
        need("lock-missing" in done.stderr, f"check does not name the lock: {done.stderr[-200:]}")
        for tool in TOOLS.get(Example(name), ()):
            log(f"building {tool}, or finding it built")
            lab.rackwright("toolchain", tool, status=0)
        log("fetching the packages of the lock")
        lab.rackwright("lock", "--fetch", name, status=0)
        done = lab.rackwright("check", name, status=0)
        need(done.stdout.rstrip().endswith("no errors"), f"check of {name} says {done.stdout[-200:]}")
        lab.start()
        yield lab
