"""Hosts of a twin to which people and tools log in: their declaration and the logins."""

import copy
import io
import re
import subprocess
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from rackwright.access.totp import Secret
from rackwright.stack import load_stack
from tests.support.lab import Lab
from tests.support.login_machine import code, enrol_in_terminal, new_key, ssh

PEOPLE = {"olga": "operator", "dara": "data-scientist", "axel": "auditor"}

BROKEN = {
    "directory:/etc/ssh/sshd_config.d": "echo 'Match all' > /etc/ssh/sshd_config.d/99-more.conf",
    "file:/etc/ssh/sshd_config": "echo 'PasswordAuthentication yes' >> /etc/ssh/sshd_config",
    "directory:/etc/sudoers.d": "echo '%games ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/games",
    "group:rackwright-operator": "gpasswd -a dara rackwright-operator",
    "user:dara": "usermod -s /bin/sh dara",
    "file:/etc/ssh/authorized_keys.d/axel": "cat /etc/ssh/authorized_keys.d/olga >> /etc/ssh/authorized_keys.d/axel",
    "directory:/etc/ssh/authorized_keys.d": "cp /etc/ssh/authorized_keys.d/olga /etc/ssh/authorized_keys.d/root",
    "file:/etc/ssh/rackwright_revoked_keys": ": > /etc/ssh/rackwright_revoked_keys",
    "user:olga": "usermod -p '$6$x$y' olga",
    "directory:/var/lib/totp": "chmod 0755 /var/lib/totp",
    "file:/etc/pam.d/sshd": "sed -i s/requisite/optional/ /etc/pam.d/sshd",
    "file:/usr/local/sbin/rackwright-probe": "echo 'print(1)' >> /usr/local/sbin/rackwright-probe",
    "unit:ssh.service": "systemctl disable ssh.service",
}
"""Commands that break a claim of the role access, by claim."""


def access(keys: Path) -> dict[str, Any]:
    """Return variables of the role access, by short names, for new keys in the directory *keys*."""
    keys.mkdir(parents=True, exist_ok=True)
    people = [{"name": name, "function": function, "keys": [new_key(keys / name)]} for name, function in PEOPLE.items()]
    new_key(keys / "deploy")
    return {
        "people": people,
        "automation": {"user": "deploy", "principals": ["deploy"]},
        "ca_keys": [new_key(keys / "ca")],
        "bootstrap_user": "rackwright",
    }


def fleet(hosts: Sequence[str], roles: dict[str, Any], machines: Collection[str] = (), **more: Any) -> str:
    """Return the file of a fleet of *hosts* with *roles*; *machines* among them have a drive to start from."""
    declared: dict[str, dict[str, Any]] = {
        name: {
            "group": "all",
            "address": f"192.0.2.{number}",
            "identity": {"serial": f"S-{name.upper()}"},
            "nics": [{"name": "fabric0", "mac": f"52:54:00:00:04:{number:02x}", "addresses": [f"10.32.0.{number}/24"]}],
        }
        for number, name in enumerate(hosts, start=1)
    }
    for name in machines:
        declared[name]["drives"] = [{"serial": f"{name.upper()}-BOOT", "boot": True}]
    text = io.StringIO()
    group = {"os": "debian-12", "roles": roles}
    YAML().dump({"fleet": "software", **more, "groups": {"all": group}, "hosts": declared}, text)
    return text.getvalue()


class Rack:
    """A twin whose hosts have the role access, with the keys of all accounts; logins go to *host*."""

    def __init__(self, lab: Lab, keys: Path, host: str) -> None:
        self.lab, self.keys, self.host = lab, keys, host

    @property
    def salt(self) -> str:
        """The fleet's key of digests, as an auditor's probe takes it."""
        return f"{load_stack(self.lab.stack, self.lab.directory).salt.hex()}\n"

    def ssh(self, user: str, *command: str, **more: Any) -> subprocess.CompletedProcess[str]:
        """Log in as *user* with the key of that name; see tests.support.login_machine.ssh."""
        key = more.pop("key", self.keys / user)
        return ssh("127.0.0.1", self.lab.twin.settings(self.host).port, user, key, *command, **more)

    def access(self, **changes: object) -> None:
        """Change the role's variables in the declaration."""
        self.lab.edit(lambda fleet: fleet["groups"]["all"]["roles"]["access"].update(copy.deepcopy(changes)))

    def enrol(self, user: str) -> Secret:
        """Enrol *user* on all hosts in a terminal, and return the key that the terminal shows."""
        status, text = self.try_to_enrol(user, "--replace")
        assert status == 0, text
        [key] = re.findall(r"type ([A-Z2-7]{32})", text)
        return Secret(key, ())

    def try_to_enrol(self, user: str, *options: str) -> tuple[int, str]:
        """Run `rackwright enrol` for *user* in a terminal, and return its exit status and its output."""
        program = str(Path(self.lab.directory, ".venv/bin/rackwright"))
        return enrol_in_terminal(program, ["enrol", self.lab.stack, user, *options], self.lab.directory)

    def new_code(self, user: str) -> str:
        """Return a code of *user* after a new enrolment, since a host accepts each code once."""
        return code(self.enrol(user))

    def certificate(self, *arguments: str) -> list[str]:
        """Issue a certificate as a person does, and return the options of ssh for it."""
        key = str(self.keys / "deploy")
        self.lab.rackwright("cert", self.lab.stack, "--ca", str(self.keys / "ca"), "--key", key, *arguments, status=0)
        return ["-o", f"CertificateFile={key}-cert.pub"]
