"""A training on two containers of a twin: what the checks of runs have in common."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.accept.harness import Log, Skipped, eventually
from tests.accept.lab import Lab
from tests.roles.tracking import account

CHIEF, OTHER, STRANGER = HOSTS = ("oak", "elm", "ash")
RUN = "digits"
OUT, ETC, HOME = f"/srv/warm/runs/{RUN}", f"/etc/rackwright/runs/{RUN}", f"/var/lib/rackwright/runs/{RUN}"
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
"""Roles of the chief of a run that is tracked."""


class Trained(Lab):
    """The stack of the run; its hosts are of a stack beside it."""

    def status(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self.rackwright("run", "status", self.stack, RUN, "--json").stdout)
        return told

    def step(self, host: str) -> int:
        """Return the last step in the file that the process on *host* writes there."""
        return int(json.loads(self.ssh(host, f"tail -qn 1 {OUT}/metrics*.jsonl"))["step"])

    def received(self, host: str) -> int:
        return int(self.ssh(host, "cat /sys/class/net/fabric0/statistics/rx_bytes"))

    def processes(self, host: str) -> list[str]:
        """Return the processes that train on *host*."""
        return self.ssh(host, f"pgrep -u run-{RUN} -f '^[^ ]*python -m workloads.training /' || true").split()


@contextmanager
def trained(log: Log, tracked: bool = False, more: str = "") -> Iterator[Trained]:
    """A run whose first step was logged, on hosts that were made for it.

    Args:
        tracked: Whether an MLflow server on its chief is told.
        more: A further line of the run.
    """
    if os.geteuid() != 0:
        raise Skipped("containers need root")
    with Trained(log.empty_directory(), RACK, log, "trees", containers=HOSTS, workloads=True) as lab:
        stacks = lab.fleet_path.parent
        lines = [f"tracking: {{host: {CHIEF}, account: tina}}"] if tracked else []
        run = "".join(f"    {line}\n" for line in (*lines, more) if line)
        (stacks / "training.yaml").write_text(RUNS + run)
        settings = {"rackwright:fleet": "training.yaml", "rackwright:target": "twin:trees"}
        (stacks / "Pulumi.training.yaml").write_text(json.dumps({"config": settings}))
        if tracked:
            lab.edit(lambda fleet: fleet.update(mirror={}))
            lab.edit(lambda fleet: fleet["hosts"][CHIEF].update(roles=SERVER))
        lab.start()
        if tracked:
            log("fetching what the server needs")
            lab.rackwright("lock", "--fetch", lab.stack, status=0)
        log("making the hosts")
        lab.up()
        lab.stack = "training"
        log("starting the run")
        lab.up()
        yield lab


def goes_on(lab: Trained, host: str, steps: int = 1) -> None:
    """Return when the process on *host* has logged so many further steps."""
    wanted = lab.step(host) + steps
    eventually(lambda: lab.step(host) >= wanted, f"step {wanted} on {host}", START_SECONDS)
