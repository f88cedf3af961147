"""Line 4: a host takes back a change that locks everyone out, and its resource fails."""

import base64
import os
import re
import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rackwright.core.contract import Command
from rackwright.hosts.ansible import inventory_text
from rackwright.kinds.shared.guard import LEASE_FILE, SECONDS, guard_change
from tests.support.acceptance import line
from tests.support.access_rack import Rack, access, fleet
from tests.support.ansible_inventory import read_inventory
from tests.support.expect import eventually, need
from tests.support.lab import Lab
from tests.support.log import ROOT, Log
from tests.support.login_machine import certificate

HOST = "alpha"
SLACK_SECONDS = 30
"""For the host to do it, and for us to notice."""
CONFIG = "/etc/ssh/sshd_config.d/10-rackwright.conf"
FAILED = re.compile(rf"\(log in again\) failed on {HOST}: .*")


@line("roles", 4, part="sshd")
def test_a_host_takes_back_an_sshd_that_cannot_be_reached(log: Log) -> str:
    """Its sshd listens where nobody asks: valid, and wrong. An invalid configuration of sshd is never written."""
    with _rack(log, containers=[HOST]) as rack:
        lab = rack.lab
        _require_sshd_refuses(rack)
        _require_timer_waits_for_lease(lab)
        before = lab.ssh(HOST, f"cat {CONFIG}")
        log("sshd is declared to listen on another port than the one that is asked")
        rack.access(ports=[2222])
        reason = _fails(lab)
        need(lab.ssh(HOST, "id", status=None) == "", f"{HOST} is reachable before it took anything back")
        seconds = _back(log, lambda: lab.ssh(HOST, "id -un", status=None) == "root")
        need(lab.ssh(HOST, f"cat {CONFIG}") == before, f"{CONFIG} is not what it was")
        return f"{reason!r}; taken back and reachable {seconds:.0f} s after it failed, timer {SECONDS} s"


def _require_sshd_refuses(rack: Rack) -> None:
    """A configuration that sshd does not accept fails the role's own check, and the host keeps its present one."""
    lab, path = rack.lab, rack.keys / "inventory.yml"
    rack.lab.log("playing a configuration that sshd does not accept")
    look = f"cat {CONFIG}; systemctl show --property=MainPID ssh.service"
    before = lab.ssh(HOST, look)
    inventory = read_inventory(lab.rackwright("inventory", lab.stack, status=0).stdout)
    for file in inventory["all"]["hosts"][HOST]["access_files"]:
        if file["path"] == CONFIG:
            file["content"] = base64.b64encode(b"AllowUsers\n").decode()
    path.write_text(inventory_text(inventory))
    argv = [
        str(ROOT / ".venv/bin/ansible-playbook"),
        "-i",
        str(path),
        str(ROOT / "playbooks/role.yml"),
        "-e",
        "role=access",
    ]
    played = lab.log.run(argv, rack.keys, {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")})
    need(played.returncode == 2, f"the playbook ended with {played.returncode}")
    need("failed to validate" in played.stdout, f"the playbook printed {played.stdout[-300:]}")
    need(lab.ssh(HOST, look) == before, "the host has another configuration, or sshd was started again")


def _require_timer_waits_for_lease(lab: Lab) -> None:
    """The timer of a change that takes longer than the timer's seconds waits for the host's lease."""
    lab.log("a change that takes longer than its timer")
    arm = guard_change("slow", ["/etc/slow"], "", [], seconds=1, patient=True)[0]
    assert isinstance(arm, Command)
    held = f"flock {LEASE_FILE} sh -c 'touch /run/held; while [ ! -e /run/let-go ]; do sleep 0.1; done'"
    lab.ssh(HOST, f"setsid {held} </dev/null >/dev/null 2>&1 &")
    eventually(lambda: lab.ssh(HOST, "ls /run/held", status=None), "the lease is held")
    lab.ssh(HOST, f"echo before > /etc/slow; {shlex.join(arm.argv)}; echo after > /etc/slow")
    going = "systemctl show --property=ActiveState --value undo-rackwright-slow.service"
    eventually(lambda: lab.ssh(HOST, going) == "activating", "the timer fires")
    need(lab.ssh(HOST, "cat /etc/slow") == "after", "the change was undone before the lease was free")
    lab.ssh(HOST, "touch /run/let-go")
    eventually(lambda: lab.ssh(HOST, "cat /etc/slow") == "before", "the change is undone")


@line("roles", 4, part="certificate")
def test_a_host_takes_back_a_handover_to_an_expired_certificate(log: Log) -> str:
    """A handover to certificates whose certificate has expired: the bootstrap login does the work, and is no proof."""
    with _rack(log, containers=[]) as rack:  # a container shows no serial number, and no rack would be sure of it
        directory = log.directory / "handover"
        with Lab(directory, rack.lab.fleet_path, log, stack="prod", target="rack") as lab:
            certificate(rack.keys, "late", until="-5m")
            layout, port = rack.lab.twin.layout, rack.lab.twin.settings(HOST).port
            lab.pins.write_text(layout.known_hosts.read_text())
            tools = {"name": "certificate", "user": "deploy", "key": str(rack.keys / "deploy")}
            tools["certificate"] = f"{rack.keys / 'late'}-cert.pub"
            bootstrap = {"name": "bootstrap", "user": "rackwright", "key": str(layout.key)}

            def reach(content: Any) -> None:
                content["hosts"][HOST] |= {"address": "127.0.0.1", "ssh": {"port": port, "logins": [tools, bootstrap]}}
                content["groups"]["all"]["roles"]["access"]["allow_tcp_forwarding"] = True

            before, written = rack.lab.ssh(HOST, f"cat {CONFIG}"), _written(rack.lab)
            lab.edit(reach)
            log("a change while the first login's certificate has expired")
            reason = _fails(lab)
            need(_written(rack.lab) > written, "nothing had been changed")  # it may be back already
            seconds = _back(log, lambda: rack.lab.ssh(HOST, f"cat {CONFIG}") == before)
            need(lab.audit_differences(), "the audit does not say that it is not as declared")
            return f"{reason!r}; taken back {seconds:.0f} s after it failed, timer {SECONDS} s"


@contextmanager
def _rack(log: Log, containers: list[str]) -> Iterator[Rack]:
    """A host with the role access, as it is declared."""
    keys = log.empty_directory() / "keys"
    roles = {"base": {"security_updates": False}, "access": access(keys) | {"people": []}}
    with Lab(
        log.directory / "project", fleet([HOST], roles, {HOST} - {*containers}), log, containers=containers
    ) as lab:
        lab.start()
        log("up")
        lab.up()
        yield Rack(lab, keys, HOST)


def _fails(lab: Lab) -> str:
    """Run up, which has to fail at the login, and return its message."""
    done = lab.up(status=4)
    output = FAILED.search(done.stdout + done.stderr)
    need(output, "up does not say that the login failed")
    assert output
    return output[0]


def _written(lab: Lab) -> int:
    """Return how often Ansible has written CONFIG, by the host's journal."""
    count = f"journalctl --quiet --output cat | grep -c 'Invoked with dest={CONFIG} .* checksum=[0-9a-f]'"
    return int(lab.ssh(HOST, f"{count} || true"))


def _back(log: Log, holds: Any) -> float:
    """Return after how many seconds the host had taken it back."""
    log(f"waiting for the host to take it back, within {SECONDS} s")
    began = time.monotonic()
    eventually(holds, f"{HOST} has not taken it back", SECONDS + SLACK_SECONDS)
    return time.monotonic() - began
