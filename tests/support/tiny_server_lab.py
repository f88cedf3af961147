"""One host in a container that serves a tiny model, for tests of hardening."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from rackwright.schema.secret import derive_value
from tests.support.expect import need
from tests.support.lab import Lab
from tests.support.log import ROOT, Log
from tests.support.workloads import python

HOST, SERVER, PORT = "holly", "digits", 8080
UNIT, ACCOUNT = f"server-{SERVER}.service", f"server-{SERVER}"
LIB, ETC = f"/var/lib/rackwright/servers/{SERVER}", f"/etc/rackwright/servers/{SERVER}"
KEY = derive_value("digits_app")
RACK = f"""\
fleet: hedge
hosts:
  {HOST}:
    profile: virtual
    os: debian-12
    address: 10.46.0.11
    identity: {{serial: HEDGE-1}}
"""
SERVERS = f"""\
fleet: serving
uses: fleet.yaml
servers:
  {SERVER}:
    model: {{path: models/first}}
    hosts: [{HOST}]
    listen: everywhere
    keys: {{app: {{secret: digits_app}}}}
    canary: {{data: models/rows.npz, accuracy: 0.9}}
    environment: {{path: /opt/workloads}}
    ready_seconds: 300
    set: {{threads: 1, drain_seconds: 0}}
"""


class TinyServerLab(Lab):
    """A lab with the stack of the server and a second stack of its host."""

    def status(self, status: int | None = None) -> dict[str, Any]:
        """Return the part of `server status` for the host."""
        done = self.rackwright("server", "status", self.stack, SERVER, "--json", status=status)
        report: dict[str, Any] = json.loads(done.stdout)["hosts"][HOST]
        return report


def tiny_models(log: Log, directory: Path) -> None:
    """Make the tiny models below *directory*."""
    done = log.run([python(log), "-m", "tests.support.models.tiny", str(directory)], ROOT, {**os.environ})
    if done.returncode:
        pytest.fail(f"the models could not be made: {done.stderr.strip().splitlines()[-1:]}", pytrace=False)


@contextmanager
def tiny_server_lab(log: Log) -> Iterator[TinyServerLab]:
    """Yield a lab in which one host serves the first model."""
    if os.geteuid() != 0:
        pytest.skip("containers need root")
    with TinyServerLab(log.empty_directory() / "project", RACK, log, "hedge", containers=[HOST], workloads=True) as lab:
        lab.add_stack("serving", SERVERS)
        tiny_models(log, lab.directory / "models")
        lab.start()
        log("making the host")
        lab.up()
        lab.stack = "serving"
        log("serving the model")
        lab.up()
        need(lab.status(status=0)["outcome"] == "ready", "it is not ready")
        yield lab
