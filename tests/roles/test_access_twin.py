"""The role access from the declaration to the logins, on a booted host of a twin."""

import base64
import json
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from rackwright.core.contract import Command
from rackwright.facts import probe
from rackwright.kinds.shared.guard import LEASE_FILE, guard_change
from tests.support.access_rack import BROKEN, Rack, access, fleet
from tests.support.expect import eventually
from tests.support.lab import Claimed, Lab
from tests.support.log import ROOT, Log
from tests.support.login_machine import REFUSED

pytestmark = [
    pytest.mark.twin,
    pytest.mark.skipif(os.geteuid() != 0, reason="containers need root, and this is somebody else"),
]
HOST = "alpha"


@pytest.fixture(scope="module")
def rack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rack]:
    directory = tmp_path_factory.mktemp("access")
    keys = directory / "keys"
    declared = fleet([HOST], {"base": {"security_updates": False}, "access": access(keys)})
    with Lab(directory / "project", declared, Log("access"), containers=[HOST]) as lab:
        lab.start()
        lab.up(status=1)  # people have no secret yet
        yield Rack(lab, keys, HOST)


def test_it_converges_and_each_secret_is_a_persons_matter(rack: Rack) -> None:
    """
    Nothing differs but who has not enrolled; then nothing at all, and nothing is left to do.
    """
    waiting = {(f"{HOST}/access", f"file:/var/lib/totp/{name}") for name in ("olga", "dara", "axel")}
    assert rack.lab.audit_differences() == waiting
    for name in ("olga", "dara", "axel"):
        rack.enrol(name)

    assert rack.lab.audit_differences() == set()
    rack.lab.pulumi("preview", "--expect-no-changes", status=0)


def test_people_get_in_with_key_and_code(rack: Rack) -> None:
    assert "Permission denied (keyboard-interactive)" in rack.ssh("olga").stderr
    now = rack.new_code("olga")
    assert rack.ssh("olga", "sudo", "-n", "id", "-un", code=now).stdout == "root\n"
    assert rack.ssh("olga", code=now).returncode == REFUSED
    assert rack.ssh("olga", code=rack.new_code("olga"), key=None).returncode == REFUSED


def test_tools_get_in_with_a_certificate(rack: Rack) -> None:
    assert rack.ssh("deploy", "sudo", "-n", "id", "-un", options=rack.certificate()).stdout == "root\n"
    (rack.keys / "deploy-cert.pub").unlink()
    assert rack.ssh("deploy").returncode == REFUSED


def test_an_auditor_gets_facts_and_no_more(rack: Rack) -> None:
    looked = rack.ssh(
        "axel", "sudo", "-n", "/usr/local/sbin/rackwright-probe", code=rack.new_code("axel"), text=rack.salt
    )

    facts = probe.parse(looked.stdout.encode(), HOST)
    assert facts.identity.hostname == HOST and facts.user("olga") is not None
    assert rack.ssh("axel", "sudo", "-n", "id", code=rack.new_code("axel")).returncode == 1


@dataclass(frozen=True)
class Changed:
    """What was found, and what was good, before the one run that corrects and changes the host."""

    found: set[Claimed]
    stolen: list[str]
    """Options of ssh for a certificate that is revoked."""
    code: str
    """A code of dara, who is taken out."""


@pytest.fixture(scope="module")
def changed(rack: Rack) -> Changed:
    """The role is broken by hand; a certificate is revoked by its serial, and a person is taken out; then `up` runs."""
    stolen, path = rack.certificate(), rack.keys / "deploy-cert.pub"
    shown = subprocess.run(["ssh-keygen", "-L", "-f", str(path)], capture_output=True, text=True, check=True).stdout
    [serial] = re.findall(r"Serial: (\d+)", shown)
    assert rack.ssh("deploy", options=stolen).returncode == 0
    now = rack.new_code("dara")
    rack.lab.ssh(HOST, "\n".join(BROKEN.values()))
    found = rack.lab.audit_differences()

    people = [person for person in rack.lab.fleet.hosts[HOST].roles["access"]["people"] if person["name"] != "dara"]
    rack.access(revoked=[{"serial": serial}], people=people)
    rack.lab.apply()
    return Changed(found, stolen, now)


def test_what_is_changed_by_hand_is_found_and_mended(rack: Rack, changed: Changed) -> None:
    """
    All of it at once, and nothing else is found; what was put there is kept aside. `roles.2[access]` also previews.
    """
    assert changed.found == {(f"{HOST}/access", claim) for claim in BROKEN}
    assert rack.lab.audit_differences() == set()
    assert "games" in rack.lab.ssh(HOST, "cat /var/lib/rackwright/aside/etc/sudoers.d/games")


def test_a_certificate_that_was_stolen_is_revoked_by_its_serial(rack: Rack, changed: Changed) -> None:
    assert rack.ssh("deploy", options=changed.stolen).returncode == REFUSED
    assert rack.ssh("deploy", options=rack.certificate()).returncode == 0


def test_who_is_taken_out_is_out(rack: Rack, changed: Changed) -> None:
    assert rack.ssh("dara", code=changed.code).returncode == REFUSED
    assert rack.lab.ssh(HOST, "id -Gn dara") == "dara"


def test_nothing_is_taken_back_from_under_who_is_still_at_it(rack: Rack) -> None:
    """
    A slow host may take longer than the timer waits: it goes off, and waits for the host's lock.
    """
    arm = guard_change("slow", ["/etc/slow"], "", [], seconds=1, patient=True)[0]
    assert isinstance(arm, Command)
    held = f"flock {LEASE_FILE} sh -c 'touch /run/held; while [ ! -e /run/let-go ]; do sleep 0.1; done'"
    rack.lab.ssh(HOST, f"setsid {held} </dev/null >/dev/null 2>&1 &")
    eventually(lambda: rack.lab.ssh(HOST, "ls /run/held", status=None), "the lock is held")
    rack.lab.ssh(HOST, f"echo before > /etc/slow; {shlex.join(arm.argv)}; echo after > /etc/slow")
    going = "systemctl show --property=ActiveState --value undo-rackwright-slow.service"
    eventually(lambda: rack.lab.ssh(HOST, going) == "activating", "the timer goes off")

    assert rack.lab.ssh(HOST, "cat /etc/slow") == "after"
    rack.lab.ssh(HOST, "touch /run/let-go")
    eventually(lambda: rack.lab.ssh(HOST, "cat /etc/slow") == "before", "it is taken back")


def test_a_configuration_that_sshd_does_not_take_is_never_written(rack: Rack) -> None:
    """
    Whatever else lets it through: the role's own judge does not.
    """
    look = "cat /etc/ssh/sshd_config.d/10-rackwright.conf; systemctl show --property=MainPID ssh.service"
    before = rack.lab.ssh(HOST, look)
    inventory = json.loads(rack.lab.rackwright("inventory", rack.lab.stack, status=0).stdout)
    for file in inventory["all"]["hosts"][HOST]["access_files"]:
        if file["path"].endswith("10-rackwright.conf"):
            file["content"] = base64.b64encode(b"AllowUsers\n").decode()
    path = rack.keys / "inventory.json"
    path.write_text(json.dumps(inventory))
    program, playbook = ROOT / ".venv/bin/ansible-playbook", ROOT / "playbooks/role.yml"
    argv = [str(program), "-i", str(path), str(playbook), "-e", "role=access"]
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
    played = subprocess.run(argv, capture_output=True, text=True, cwd=rack.keys, env=environment)

    assert played.returncode == 2
    assert "failed to validate" in played.stdout
    assert rack.lab.ssh(HOST, look) == before
