"""A role with a claim that only a restart makes hold, on a container that really restarts: from plan to claims."""

import json
import os
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from rackwright.core.repository import Repository
from rackwright.hosts.ansible import Plays
from rackwright.hosts.pool import Hosts
from rackwright.hosts.rollout import RolloutGate
from rackwright.hosts.steps import execute
from rackwright.kinds.role import RoleKind
from rackwright.provider.site import Site
from rackwright.schema.rollout import Rollout
from rackwright.schema.ssh import Endpoint, Login
from rackwright.twin import Container, Twin, VirtualNic
from tests.support.operations_log import in_memory
from tests.support.provider_rig import Rig, failing, rig

pytestmark = [
    pytest.mark.twin,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can start containers"),
]
HERE = Path(__file__).parent / "late"
HOST = "gpu-01"
REPOSITORY = Repository.load(HERE, b"salt")


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    with tempfile.TemporaryDirectory(prefix="rackwright-") as directory:
        nics = (VirtualNic("rack0", "52:54:00:78:00:01", 1500),)
        place = Path(directory, "twin")
        twin = Twin(place, [Container(HOST, "CH-78", nics)])
        twin.start(print)
        try:
            found = json.loads((place / "endpoints.json").read_text())["hosts"][HOST]
            login = Login(name="twin", user=found["user"], key=found["key"])
            pins = place / "known_hosts"
            hosts = Hosts({HOST: Endpoint(HOST, found["address"], found["port"], (login,), pins)}, REPOSITORY.salt)
            yield hosts
            hosts.close()
        finally:
            twin.reset(print)


@pytest.fixture
def made(hosts: Hosts) -> Iterator[Rig]:
    policy = Rollout(max_failures=1)  # several runs, and this is one process
    site = Site(
        REPOSITORY,
        hosts,
        partial(execute, play=Plays(HERE, hosts, str).play),
        RolloutGate(policy, lambda: False),
        in_memory(),
    )
    with rig({RoleKind.token: RoleKind()}, lambda stack, secrets: site) as made:
        made.token = RoleKind.token
        yield made


def inputs(**more: object) -> dict[str, object]:
    about = {"name": HOST, "os": "debian-12", "profile": "virtual"}
    # a container shows no serial number, and claims of scope kernel, such as those of a restart, are not left out
    spec = {"host": HOST, "role": "late", "identity": {}, "about": about, "fleet": {"name": "lab"}}
    return {**spec, "variables": {}, **more}


def drain(hosts: Hosts, script: str) -> None:
    """Let the host's one drain command be another."""
    place = "/etc/rackwright/drain.d"
    argv = ("sh", "-c", f"mkdir -p {place}; cat > {place}/10-work; chmod 0755 {place}/10-work")
    assert hosts.connection(HOST).run(argv, f"#!/bin/sh\n{script}\n".encode()).status == 0


def look(hosts: Hosts, command: str) -> str:
    return hosts.connection(HOST).run(("sh", "-c", command)).stdout.decode().strip()


def test_a_restart_waits_for_a_word_and_for_the_drain_and_then_the_claims_hold(made, hosts):
    boot_id = "cat /proc/sys/kernel/random/boot_id"
    before = look(hosts, boot_id)

    state = made.create(inputs())
    [warning] = made.messages("WARNING")
    assert "file:/etc/late" in warning and "write `reboot: allowed` there" in warning
    assert look(hosts, "cat /etc/tmpfiles.d/late.conf | head -1") == f"# {HOST}"
    assert look(hosts, boot_id) == before

    drain(hosts, "echo the work goes on; exit 3")
    with failing("ABORTED") as failures:
        made.update(state, inputs(reboot="allowed"))
    assert "the work goes on / /etc/rackwright/drain.d/10-work ended with 3" in failures[0].message
    assert look(hosts, boot_id) == before

    drain(hosts, "touch /etc/drained")
    state = made.update(state, inputs(reboot="allowed"))
    assert look(hosts, boot_id) != before
    assert look(hosts, "ls /etc/drained /etc/late") == "/etc/drained\n/etc/late"
    assert made.diff(made.read(state), inputs(reboot="allowed")) == {}

    with hosts.lease(HOST, "gpu-01/other", print):
        assert "gpu-01/other by" in look(hosts, "cat /run/rackwright.lock")
