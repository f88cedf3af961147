"""A whole deployment on its twin: the project of `rackwright init --example`, and the commands of an operator."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from rackwright.cli.init import TOOLS, Example
from rackwright.toolchain import choose
from tests.support.access_rack import Rack
from tests.support.expect import need
from tests.support.lab import Lab
from tests.support.log import ROOT, Log

Change = Callable[[Any], None]


class Deployment(Lab):
    """The project of the example *name*; `models` is its stack of runs and servers."""

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
        (directory / ".venv").symlink_to(ROOT / ".venv")
        self._twins = {}
        self.environment = dict(os.environ)
        self.programs = ROOT / ".venv/bin"

    def enrol(self, person: str) -> None:
        """Give *person* a second factor in a terminal, as the page of role `access` says."""
        status, text = Rack(self, self.directory, "").try_to_enrol(person)
        need(status == 0, f"enrol of {person} ended with {status}: {text.strip()[-200:]}")


@contextmanager
def deployment(log: Log, name: str, smaller: Change = lambda fleet: None) -> Iterator[Deployment]:
    """Yield the project of the example *name* with its twin on, before the first `up`.

    Args:
        smaller: Change of the fleet for two processors and 24 GB.
    """
    if os.geteuid() != 0:
        pytest.skip("containers need root")
    choose.ensure(log.write)
    with Deployment(log, name) as lab:
        done = lab.rackwright("check", lab.models, status=0)
        need(done.stdout.rstrip().endswith("no errors"), f"check of {lab.models} says {done.stdout[-200:]}")
        lab.edit(smaller)
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
