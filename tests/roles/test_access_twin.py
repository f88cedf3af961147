"""The role access from the declaration to the logins, on a booted host of a twin."""

import base64
import copy
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest
from ruamel.yaml import YAML

from rackwright.apply.totp import Secret
from rackwright.facts import probe
from tests.accept.harness import ROOT, Log
from tests.accept.lab import Lab
from tests.roles.machine import REFUSED, code, new_key, ssh

pytestmark = [
    pytest.mark.twin,
    pytest.mark.skipif(os.geteuid() != 0, reason="containers need root, and this is somebody else"),
]
HOST = "alpha"
UNDO = "undo-rackwright-role-access.service"


class Rack:
    """A host of a twin with the roles base and access, and everybody's keys."""

    def __init__(self, lab: Lab, keys: Path) -> None:
        self.lab, self.keys = lab, keys

    def ssh(self, user: str, *command: str, **more: object) -> subprocess.CompletedProcess[str]:
        """Log in as *user* with the key of that name; see tests.roles.machine.ssh."""
        key = more.pop("key", self.keys / user)
        return ssh("127.0.0.1", self.lab.twin.settings(HOST).port, user, key, *command, **more)  # type: ignore[arg-type]

    def access(self, **changes: object) -> None:
        """Declare the role otherwise."""
        self.lab.edit(lambda fleet: fleet["hosts"][HOST]["roles"]["access"].update(copy.deepcopy(changes)))

    def enrol(self, user: str) -> str:
        """Enrol *user* in a terminal, as a person does, and return a code of theirs."""
        program = str(Path(self.lab.directory, ".venv/bin/rackwright"))
        argv = ["enrol", self.lab.stack, user, "--replace"]
        terminal = pexpect.spawn(program, argv, timeout=120, cwd=str(self.lab.directory), encoding="utf-8")
        text = terminal.read()
        terminal.close()
        assert terminal.exitstatus == 0, text
        [key] = re.findall(r"type ([A-Z2-7]{32})", text)
        return code(Secret(key, ()))

    def certificate(self) -> list[str]:
        """Issue a certificate as a person does, and return the options of ssh for it."""
        key = str(self.keys / "deploy")
        self.lab.rackwright("cert", self.lab.stack, "--ca", str(self.keys / "ca"), "--key", key, status=0)
        return ["-o", f"CertificateFile={key}-cert.pub"]


@pytest.fixture(scope="module")
def rack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rack]:
    directory = tmp_path_factory.mktemp("access")
    keys = directory / "keys"
    keys.mkdir()
    functions = {"olga": "operator", "dara": "data-scientist", "axel": "auditor"}
    people = [
        {"name": name, "function": function, "keys": [new_key(keys / name)]} for name, function in functions.items()
    ]
    new_key(keys / "deploy")
    access = {
        "people": people,
        "automation": {"user": "deploy", "principals": ["deploy"]},
        "ca_keys": [new_key(keys / "ca")],
        "bootstrap_user": "rackwright",
    }
    host = {
        "address": "192.0.2.1",
        "identity": {"serial": "S-ALPHA"},
        "os": "debian-12",
        "roles": {"base": {"security_updates": False}, "access": access},
    }
    fleet = directory / "fleet.yaml"
    with fleet.open("w") as file:
        YAML().dump({"fleet": "access", "hosts": {HOST: host}}, file)
    with Lab(directory / "project", fleet, Log("access")) as lab:
        settings = lab.directory / "stacks" / f"Pulumi.{lab.stack}.yaml"
        config = json.loads(settings.read_text())
        config["config"]["rackwright:containers"] = [HOST]
        settings.write_text(json.dumps(config))
        lab.start()
        lab.up(status=1)  # people have no secret yet
        yield Rack(lab, keys)


def test_it_converges_and_each_secret_is_a_persons_matter(rack: Rack) -> None:
    """
    Nothing differs but who has not enrolled; then nothing at all, and nothing is left to do.
    """
    waiting = {(f"{HOST}/access", f"file:/var/lib/totp/{name}") for name in ("olga", "dara", "axel")}
    assert rack.lab.audited() == waiting
    for name in ("olga", "dara", "axel"):
        rack.enrol(name)

    assert rack.lab.audited() == set()
    rack.lab.pulumi("preview", "--expect-no-changes", status=0)


def test_people_get_in_with_key_and_code(rack: Rack) -> None:
    assert "Permission denied (keyboard-interactive)" in rack.ssh("olga").stderr
    now = rack.enrol("olga")
    assert rack.ssh("olga", "sudo", "-n", "id", "-un", code=now).stdout == "root\n"
    assert rack.ssh("olga", code=now).returncode == REFUSED
    assert rack.ssh("olga", code=rack.enrol("olga"), key=None).returncode == REFUSED


def test_tools_get_in_with_a_certificate(rack: Rack) -> None:
    assert rack.ssh("deploy", "sudo", "-n", "id", "-un", options=rack.certificate()).stdout == "root\n"
    (rack.keys / "deploy-cert.pub").unlink()
    assert rack.ssh("deploy").returncode == REFUSED


def test_an_auditor_gets_facts_and_no_more(rack: Rack) -> None:
    looked = rack.ssh("axel", "sudo", "-n", "/usr/local/sbin/rackwright-probe", code=rack.enrol("axel"), text="5a17\n")

    facts = probe.parse(looked.stdout.encode(), HOST)
    assert facts.identity.hostname == HOST and facts.user("olga") is not None
    assert rack.ssh("axel", "sudo", "-n", "id", code=rack.enrol("axel")).returncode == 1


BROKEN = {
    "directory:/etc/ssh/sshd_config.d": "echo 'Match all' > /etc/ssh/sshd_config.d/99-more.conf",
    "file:/etc/ssh/sshd_config": "echo 'PasswordAuthentication yes' >> /etc/ssh/sshd_config",
    "directory:/etc/sudoers.d": "echo '%games ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/games",
    "group:rackwright-operator": "gpasswd -a dara rackwright-operator",
    "user:dara": "usermod -s /bin/sh dara",
    "file:/etc/ssh/authorized_keys.d/axel": "cat /etc/ssh/authorized_keys.d/olga >> /etc/ssh/authorized_keys.d/axel",
    "directory:/etc/ssh/authorized_keys.d": "cp /etc/ssh/authorized_keys.d/olga /etc/ssh/authorized_keys.d/root",
    "user:olga": "usermod -p '$6$x$y' olga",
    "directory:/var/lib/totp": "chmod 0755 /var/lib/totp",
    "file:/etc/pam.d/sshd": "sed -i s/requisite/optional/ /etc/pam.d/sshd",
    "file:/usr/local/sbin/rackwright-probe": "echo 'print(1)' >> /usr/local/sbin/rackwright-probe",
    "unit:ssh.service": "systemctl disable ssh.service",
}
"""By claim what breaks it."""


def test_what_is_changed_by_hand_is_found_and_mended(rack: Rack) -> None:
    """
    All of it at once, and nothing else is found; what was put there is kept aside.
    """
    rack.lab.ssh(HOST, "\n".join(BROKEN.values()))
    assert rack.lab.audited() == {(f"{HOST}/access", claim) for claim in BROKEN}

    rack.lab.up()

    assert rack.lab.audited() == set()
    assert "games" in rack.lab.ssh(HOST, "cat /var/lib/rackwright/aside/etc/sudoers.d/games")


def test_who_is_taken_out_is_out(rack: Rack) -> None:
    people = [person for person in rack.lab.fleet.hosts[HOST].roles["access"]["people"] if person["name"] != "dara"]
    now = rack.enrol("dara")

    rack.access(people=people)
    rack.lab.up()

    assert rack.lab.audited() == set()
    assert rack.ssh("dara", code=now).returncode == REFUSED
    assert rack.lab.ssh(HOST, "id -Gn dara") == "dara"


def test_a_change_that_locks_us_out_is_taken_back_by_the_host(rack: Rack) -> None:
    """
    The login by which it is changed is taken out. Here nobody waits for the timer: tools, who get in, let it go off.
    """
    rack.access(bootstrap_user="")
    said = rack.lab.up(status=4).stdout

    assert re.search(r"\(log in anew\) failed on alpha: .*Permission denied", said)
    assert rack.lab.ssh(HOST, "id", status=None) == ""
    assert rack.ssh("deploy", "sudo", "-n", "systemctl", "start", UNDO, options=rack.certificate()).returncode == 0
    assert rack.lab.ssh(HOST, "id -un") == "root"

    rack.access(bootstrap_user="rackwright")
    rack.lab.up()
    assert rack.lab.audited() == set()


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
    argv = [str(ROOT / ".venv/bin/ansible-playbook"), "-i", str(path), str(ROOT / "playbooks/access.yml")]
    environment = {**os.environ, "ANSIBLE_ROLES_PATH": str(ROOT / "roles")}
    played = subprocess.run(argv, capture_output=True, text=True, cwd=rack.keys, env=environment)

    assert played.returncode == 2
    assert "failed to validate" in played.stdout
    assert rack.lab.ssh(HOST, look) == before
