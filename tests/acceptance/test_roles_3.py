"""Line 3: who gets in and who does not, each case by a real login to a machine that has the role access."""

import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from rackwright.access.totp import Secret
from rackwright.facts import probe
from rackwright.hosts.transport import Connection
from rackwright.schema.ssh import Endpoint, Login
from tests.support.acceptance import line
from tests.support.access_rack import Rack, access, fleet
from tests.support.expect import need
from tests.support.lab import Lab
from tests.support.log import Log
from tests.support.login_machine import REFUSED, certificate, code, new_key, ping

HOST = "alpha"
STEP_SECONDS = 30
"""For which a code holds."""


@line("roles", 3)
def test_only_declared_people_log_in(log: Log) -> str:
    keys = log.empty_directory() / "keys"
    declared = fleet([HOST], {"base": {"security_updates": False}, "access": access(keys)}, [HOST])
    with Lab(log.directory / "project", declared, log) as lab:
        lab.start()
        log("up")
        lab.up(status=1)  # people have no secret yet
        doors = Doors(Rack(lab, keys, HOST))
        wrong = []
        for text, (row, gets_in) in ROWS.items():
            log(text)
            if row(doors) != gets_in:
                wrong.append(f"{text}: {'refused' if gets_in else 'accepted'}")
        need(not wrong, "; ".join(wrong))
        in_count = sum(gets_in for _, gets_in in ROWS.values())
        return f"{in_count} ways in accepted, {len(ROWS) - in_count} others refused, on a machine of its own"


class Doors:
    """Every way to log in; each says whether it let somebody in."""

    def __init__(self, rack: Rack) -> None:
        self.rack, self.keys = rack, rack.keys
        self._secret = rack.enrol("olga")
        self._used: dict[Secret, int] = {}

    def fresh_code(self, secret: Secret | None = None) -> str:
        """Return a new code of *secret*, by default that of olga: a code is good for one login."""
        secret = secret or self._secret
        while (now := int(time.time()) // STEP_SECONDS) <= self._used.get(secret, 0):
            time.sleep(0.2)
        self._used[secret] = now
        return code(secret)

    def key_alone(self) -> bool:
        return _in(self.rack.ssh("olga"))

    def key_and_code(self) -> bool:
        self.last = self.fresh_code()
        return _in(self.rack.ssh("olga", code=self.last))

    def same_code_again(self) -> bool:
        return _in(self.rack.ssh("olga", code=self.last))

    def wrong_code(self) -> bool:
        near = {code(self._secret, steps) for steps in range(-3, 4)}
        return _in(self.rack.ssh("olga", code=next(guess for guess in ("000000", "111111") if guess not in near)))

    def code_without_key(self) -> bool:
        return _in(self.rack.ssh("olga", key=None, code=self.fresh_code()))

    def certificate(self, name: str, *options: str, **more: str) -> bool:
        made = certificate(self.keys, name, *options, **more)
        return _in(self.rack.ssh("deploy", options=made))

    def bare_key(self) -> bool:
        return _in(self.rack.ssh("deploy"))

    def revoked_key(self) -> bool:
        """The first of the rows after the withdrawal of access, which it begins."""
        self._withdraw()
        return _in(self.rack.ssh("deploy", key=self.keys / "spare", options=self._of_spare))

    def _withdraw(self) -> None:
        """Revoke a key and the serial number of a certificate, and remove dara; all three were good a moment ago."""
        new_key(self.keys / "spare")
        self._of_spare = certificate(self.keys, "of-spare", key="spare")
        self.rack.certificate()
        issued, stolen = self.keys / "deploy-cert.pub", self.keys / "stolen-cert.pub"
        issued.rename(stolen)  # ssh takes a certificate of the first name by itself
        self._stolen = ["-o", f"CertificateFile={stolen}"]
        shown = subprocess.run(["ssh-keygen", "-L", "-f", str(stolen)], capture_output=True, text=True, check=True)
        [serial] = re.findall(r"Serial: (\d+)", shown.stdout)
        self._secret_of_dara = self.rack.enrol("dara")
        good = self.rack.ssh("deploy", key=self.keys / "spare", options=self._of_spare)
        need(_in(good), "the certificate of the key was never good")
        need(_in(self.rack.ssh("deploy", options=self._stolen)), "the stolen certificate was never good")
        need(self.person_of_dara(), "dara was never let in")

        roles = self.rack.lab.fleet.hosts[HOST].roles
        people = [person for person in roles["access"]["people"] if person["name"] != "dara"]
        revoked = [(self.keys / "spare.pub").read_text().strip(), {"serial": serial}]
        self.rack.access(revoked=revoked, people=people)
        self.rack.lab.up(status=1)  # axel has not enrolled
        groups = self.rack.lab.ssh(HOST, "id -Gn dara")
        need(groups == "dara", f"dara is still in the groups {groups}")

    def revoked_serial(self) -> bool:
        return _in(self.rack.ssh("deploy", options=self._stolen))

    def person_of_dara(self) -> bool:
        return _in(self.rack.ssh("dara", code=self.fresh_code(self._secret_of_dara)))

    def our_own_connection(self) -> bool:
        layout = self.rack.lab.twin.layout
        certificate(self.keys, "ours")
        made = str(self.keys / "ours-cert.pub")
        login = Login(name="tools", user="deploy", key=str(self.keys / "deploy"), certificate=made)
        port = self.rack.lab.twin.settings(HOST).port
        connection = Connection(Endpoint(HOST, "127.0.0.1", port, (login,), layout.known_hosts))
        try:
            return connection.run(("id", "-un")).stdout == b"root\n"
        finally:
            connection.close()

    def ansible(self) -> bool:
        made = certificate(self.keys, "ansible")
        return self._ping("deploy", ["-F", "none", "-i", str(self.keys / "deploy"), *made, *_TRUSTED])

    def ansible_over_a_persons_connection(self) -> bool:
        control = ["-o", f"ControlPath={self.keys}/c"]
        opened = self.rack.ssh("olga", options=[*control, "-M", "-f", "-N"], code=self.fresh_code())
        need(opened.returncode == 0, f"the person does not get in: {opened.stderr}")
        try:
            return self._ping("olga", ["-F", "none", *control])
        finally:
            self.rack.ssh("olga", key=None, options=[*control, "-O", "exit"])

    def _ping(self, user: str, options: list[str]) -> bool:
        variables = {"ansible_user": user, "ansible_ssh_common_args": " ".join(options)}
        return '"ping": "pong"' in ping(self.rack.lab.twin.settings(HOST).port, Path(self.keys), variables)

    def auditors_probe(self) -> bool:
        argv = ("sudo", "-n", "/usr/local/sbin/rackwright-probe")
        looked = self.rack.ssh("axel", *argv, code=self.rack.new_code("axel"), text=self.rack.salt)
        return looked.returncode == 0 and probe.parse(looked.stdout.encode(), HOST).user("olga") is not None

    def auditor_as_root(self) -> bool:
        return self.rack.ssh("axel", "sudo", "-n", "id", code=self.rack.new_code("axel")).returncode == 0


def _in(done: subprocess.CompletedProcess[str]) -> bool:
    need(done.returncode in (0, REFUSED), f"ssh ended with {done.returncode}: {done.stderr}")
    return done.returncode == 0


_TRUSTED = ("-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null")
ROWS: dict[str, tuple[Callable[[Doors], bool], bool]] = {
    "a person with the key only": (Doors.key_alone, False),
    "a person with key and code": (Doors.key_and_code, True),
    "the same code again": (Doors.same_code_again, False),
    "a person with key and a wrong code": (Doors.wrong_code, False),
    "a code without the key": (Doors.code_without_key, False),
    "automation with a certificate": (lambda doors: doors.certificate("good"), True),
    "automation with one for its own address": (
        lambda doors: doors.certificate("here", "-O", "source-address=10.0.2.0/24,127.0.0.0/8"),
        True,
    ),
    "automation with the bare key": (Doors.bare_key, False),
    "an expired certificate": (lambda doors: doors.certificate("expired", until="-5m"), False),
    "one for another principal": (lambda doors: doors.certificate("principal", principal="olga"), False),
    "one for another source": (
        lambda doors: doors.certificate("source", "-O", "source-address=192.0.2.0/24"),
        False,
    ),
    "one of a revoked key": (Doors.revoked_key, False),
    "one that is revoked by its serial number": (Doors.revoked_serial, False),
    "another certificate of the same key": (lambda doors: doors.certificate("renewed"), True),
    "a person who is no longer declared": (Doors.person_of_dara, False),
    "our own connection with a certificate": (Doors.our_own_connection, True),
    "Ansible with a certificate": (Doors.ansible, True),
    "Ansible over a connection that a person opened": (Doors.ansible_over_a_persons_connection, True),
    "an auditor for all facts, without being root": (Doors.auditors_probe, True),
    "an auditor as root": (Doors.auditor_as_root, False),
}
"""What is tried, and whether it shall be let in."""
