"""A training run on two containers of a twin, for tests of runs."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.support.expect import eventually
from tests.support.lab import Lab
from tests.support.log import Log
from tests.support.mlflow_accounts import account

LAUNCHER, OTHER, STRANGER = HOSTS = ("oak", "elm", "ash")
RUN = "digits"
OUT, ETC = f"/srv/warm/runs/{RUN}", f"/etc/rackwright/runs/{RUN}"
LOG = f"/var/log/rackwright/runs/{RUN}/log"
START_SECONDS = 900
RACK = """\
fleet: trees
groups:
  trees:
    profile: virtual
    os: debian-12
    network: {}
    tiers: {warm: {provided: true, mount: /srv/warm}}
hosts:
""" + "".join(
    f"""\
  {name}:
    group: trees
    address: 10.42.0.1{number}
    identity: {{serial: TREE-{number}}}
    nics: [{{name: fabric0, mac: "52:54:00:00:42:0{number}", addresses: [10.142.0.1{number}/24]}}]
"""
    for number, name in enumerate(HOSTS, start=1)
)
RUNS = """\
fleet: training
uses: fleet.yaml
runs:
  digits:
    recipe: digits
    hosts: [oak, elm]
    checkpoints: {tier: warm}
    set: {steps: 100000, report_every_steps: 5, saving: {every_steps: 20}}
"""


SERVER = {
    "base": {"security_updates": False},
    "mlflow": {"admin": account("admin"), "users": [{**account("tina"), "function": "trainer"}]},
}
"""Roles of the launcher host of a tracked run."""
INSTALLED = {"base": {"security_updates": False}, "workloads": {}}
"""Roles of the single host of a run whose packages the fleet installs."""


class TrainingLab(Lab):
    """A lab with the stack of the run and a second stack of its hosts."""

    hosts_stack: str

    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = json.loads(self.rackwright("run", "status", self.stack, RUN, "--json").stdout)
        return status

    def step(self, host: str) -> int:
        """Return the last step that all processes on *host* have written to their files."""
        last = f"""for file in {OUT}/metrics*.jsonl; do grep '"step":' $file | tail -n 1; done"""
        lines = self.ssh(host, last).splitlines()
        return min(int(json.loads(line)["step"]) for line in lines)

    def received_bytes(self, host: str) -> int:
        return int(self.ssh(host, "cat /sys/class/net/fabric0/statistics/rx_bytes"))

    def processes(self, host: str) -> list[str]:
        """Return the process ids of the training on *host*."""
        return self.ssh(host, f"pgrep -u run-{RUN} -f '^[^ ]*python -m workloads.training /' || true").split()


@contextmanager
def training_lab(log: Log, tracked: bool = False, installed: bool = False, more: str = "") -> Iterator[TrainingLab]:
    """Yield a lab in which a run on new hosts has logged its first step.

    Args:
        tracked: True if an MLflow server on its launcher host tracks the run.
        installed: True if it runs on the launcher host alone, with packages that are installed from the lock.
        more: A further line of the declaration of the run.
    """
    if os.geteuid() != 0:
        pytest.skip("containers need root")
    with TrainingLab(log.empty_directory(), RACK, log, "trees", containers=HOSTS, workloads=not installed) as lab:
        lines = [f"tracking: {{host: {LAUNCHER}, account: tina}}"] if tracked else []
        run = "".join(f"    {line}\n" for line in (*lines, more) if line)
        runs = RUNS.replace(f"[{LAUNCHER}, {OTHER}]", f"[{LAUNCHER}]\n    processes: 2") if installed else RUNS
        lab.add_stack("training", runs + run)
        if roles := SERVER if tracked else INSTALLED if installed else None:
            lab.edit(lambda fleet: fleet.update(mirror={}))
            lab.edit(lambda fleet: fleet["hosts"][LAUNCHER].update(roles=roles))
        lab.start()
        if roles:
            log("fetching what roles install")
            lab.rackwright("lock", "--fetch", lab.stack, status=0)
        log("making the hosts")
        lab.up()
        lab.hosts_stack, lab.stack = lab.stack, "training"
        log("starting the run")
        lab.up()
        yield lab


def goes_on(lab: TrainingLab, host: str, steps: int = 1) -> None:
    """Return when the process on *host* has logged *steps* more steps."""
    target = lab.step(host) + steps
    eventually(lambda: lab.step(host) >= target, f"step {target} on {host}", START_SECONDS)


IDLE = """#!/bin/sh
case "$*" in *" start") exec sleep infinity ;; esac
"""
"""A script in place of Python: the run does nothing, so that a test can act from its account."""


@contextmanager
def program_lab(log: Log, rack: str, host: str, program: str) -> Iterator[TrainingLab]:
    """Yield a lab whose next `up` starts a run on *host* with the script *program* in the place of Python."""
    if os.geteuid() != 0:
        pytest.skip("containers need root")
    with TrainingLab(log.empty_directory(), rack, log, "trees", containers=[host]) as lab:
        runs = RUNS.replace(f"[{LAUNCHER}, {OTHER}]", f"[{host}]") + "    environment: {path: /opt/program}\n"
        lab.add_stack("training", runs)
        lab.start()
        lab.up()
        lab.ssh(host, f"install -d /opt/program/bin; cat > /opt/program/bin/python <<'END'\n{program}END\n")
        lab.ssh(host, "chmod 0755 /opt/program/bin/python")
        lab.hosts_stack, lab.stack = lab.stack, "training"
        yield lab
