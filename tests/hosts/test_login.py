"""Logins: tried in their order, each by what it declares, and all named when none is let in."""

import contextlib
import subprocess
from pathlib import Path

import pytest

from rackwright.hosts import transport
from rackwright.hosts.login import LoginRefused, OnlyLooks
from rackwright.hosts.pool import Hosts
from rackwright.hosts.transport import Connection
from rackwright.schema.ssh import Login
from tests.support.simulated import SimulatedRack
from tests.support.simulated.rack import new_key


def login(rack: SimulatedRack, name: str = "lab", **changes) -> Login:
    return Login(**{"name": name, "user": rack.user, "key": str(rack.key), "become": False, **changes})


def connect(rack: SimulatedRack, *logins: Login) -> Connection:
    return Connection(rack["shell"].endpoint(rack, logins=logins))


def test_the_first_accepted_login_is_used(rack, tmp_path):
    new_key(tmp_path / "stranger")
    tried = [login(rack, "stranger", key=str(tmp_path / "stranger")), login(rack, "nobody", user="nosuchuser")]

    connection = connect(rack, *tried, login(rack, "third"), login(rack, "fourth"))

    assert connection.login.name == "third"
    assert connection.run(("id", "-un")).stdout.decode().strip() == rack.user
    connection.close()


def test_a_refusal_names_every_login_in_order_and_the_command_to_try(rack, tmp_path):
    stranger, host = tmp_path / "stranger", rack["shell"]
    new_key(stranger)

    with pytest.raises(LoginRefused) as refusal:
        connect(rack, login(rack, key=str(stranger)), login(rack, user="nosuchuser", key=str(tmp_path / "none")))

    assert str(refusal.value) == (
        f'shell: ssh reported "Permission denied (publickey)" for user {rack.user} with the key {stranger};'
        f" then there is no file {tmp_path}/none for user nosuchuser with the key {tmp_path}/none;"
        " no step was run on this host."
        f" Check `ssh -o UserKnownHostsFile={rack.known_hosts} -p {host.port} -i {stranger}"
        f" {rack.user}@{host.address} true`."
    )


def test_a_host_without_logins_says_so(rack):
    with pytest.raises(LoginRefused, match="^shell: no login is declared for the host. "):
        connect(rack)


def test_a_key_with_a_passphrase_points_to_the_agent(rack, tmp_path):
    key = tmp_path / "locked"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "sesame", "-f", key], check=True)

    with pytest.raises(LoginRefused, match="has a passphrase; load it into ssh-agent and declare agent: true"):
        connect(rack, login(rack, key=str(key)))


def test_a_file_that_is_no_key_is_refused(rack, tmp_path):
    (tmp_path / "letter").write_text("Dear reader,\n")

    with pytest.raises(LoginRefused, match="letter cannot be used"):
        connect(rack, login(rack, key=str(tmp_path / "letter")))


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A running ssh-agent without keys."""
    process = subprocess.Popen(["ssh-agent", "-D", "-a", tmp_path / "agent"], stdout=subprocess.PIPE, text=True)
    assert process.stdout and process.stdout.readline()
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
    yield
    process.terminate()
    process.wait()


@pytest.mark.usefixtures("agent")
def test_an_agent_without_keys_says_so(rack):
    with pytest.raises(LoginRefused, match="the running ssh-agent has no key for user .* with the keys of ssh-agent"):
        connect(rack, login(rack, key=None, agent=True))


@pytest.mark.usefixtures("agent")
def test_the_agent_is_asked_only_where_the_login_says_so(rack, tmp_path):
    new_key(tmp_path / "stranger")
    subprocess.run(["ssh-add", "-q", rack.key], check=True)

    with pytest.raises(LoginRefused):
        connect(rack, login(rack, key=str(tmp_path / "stranger")))
    connection = connect(rack, login(rack, key=str(tmp_path / "stranger"), agent=True))

    assert connection.run(("true",)).status == 0
    connection.close()


def test_a_certificate_opens_where_its_key_alone_does_not(rack, tmp_path):
    ca, key = tmp_path / "ca", tmp_path / "robot"
    new_key(key)
    (tmp_path / "ca.pub").write_text(new_key(ca) + "\n")
    public = subprocess.run(["ssh-keygen", "-yf", key], capture_output=True, check=True).stdout
    (tmp_path / "to-sign.pub").write_bytes(public)
    sign = ["ssh-keygen", "-q", "-s", ca, "-I", "robot", "-n", rack.user, tmp_path / "to-sign.pub"]
    subprocess.run(sign, check=True)
    config = rack["shell"].directory / "sshd_config"
    config.write_text(f"{config.read_text()}TrustedUserCAKeys {tmp_path}/ca.pub\n")

    with pytest.raises(LoginRefused):
        connect(rack, login(rack, key=str(key)))
    connection = connect(rack, login(rack, key=str(key), certificate=str(tmp_path / "to-sign-cert.pub")))

    assert connection.run(("true",)).status == 0
    connection.close()


def test_commands_become_root_by_sudo_unless_declared_otherwise(rack, tmp_path, monkeypatch):
    """No sudo is needed for the test: what would be run is seen by a command of that name."""
    (tmp_path / "sudo").write_text('#!/bin/sh\nprintf "%s|" "$@"\n')
    (tmp_path / "sudo").chmod(0o755)
    monkeypatch.setattr(transport, "SUDO", str(tmp_path / "sudo"))

    connection = connect(rack, login(rack, become=True))

    assert connection.run(("echo", "two words")).stdout == b"-n|--|echo|two words|"
    connection.close()


def test_what_changed_is_confirmed_by_a_login_that_may_change(rack):
    logins = (login(rack, "auditor", become="probe"), login(rack, "lab"))

    with contextlib.closing(Hosts({"shell": rack["shell"].endpoint(rack, logins=logins)}, b"salt")) as hosts:
        hosts.check_login("shell")
        with pytest.raises(OnlyLooks, match="^shell: the login auditor is read-only; "):
            hosts.texts("shell", ["/etc/hostname"])
