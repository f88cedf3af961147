"""Pinned host keys: only they are trusted, and a person is shown what to compare."""

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from paramiko import HostKeys

from rackwright.errors import SetupError
from rackwright.hosts.pins import HostKeyRefused, pin_name, pinned_keys
from rackwright.hosts.transport import Connection
from rackwright.schema.ssh import Endpoint
from tests.support.simulated.rack import new_key


def endpoint(known_hosts: Path, port: int = 22) -> Endpoint:
    return Endpoint("gpu-01", "10.20.0.11", port, (), known_hosts)


def fingerprint(public: str, directory: Path) -> str:
    """Return what ssh-keygen says, so that ours is not compared with itself."""
    file = directory / "some.pub"
    file.write_text(public + "\n")
    done = subprocess.run(["ssh-keygen", "-lf", file], capture_output=True, text=True, check=True)
    return done.stdout.split()[1]


def test_a_host_without_a_pin_is_refused_with_its_fingerprint(rack, tmp_path):
    host, empty = rack["shell"], tmp_path / "known_hosts"

    with pytest.raises(HostKeyRefused) as refusal:
        Connection(host.endpoint(rack, known_hosts=empty))

    assert str(refusal.value) == (
        f"shell: [{host.address}]:{host.port} has the host key {fingerprint(host.host_key, tmp_path)} (ssh-ed25519)"
        f", and {empty} has no key for it; only pinned keys are trusted; nothing was sent to the host."
        " Compare the fingerprint with `ssh-keygen -lf /etc/ssh/ssh_host_*_key.pub` at the host's console,"
        f" then add its line to {empty}."
    )


def test_a_changed_key_is_refused_with_both_fingerprints(rack, tmp_path):
    host, pins = rack["shell"], tmp_path / "known_hosts"
    another = new_key(tmp_path / "another")
    pins.write_text(host.pin.replace(host.host_key, another))

    with pytest.raises(HostKeyRefused) as refusal:
        Connection(host.endpoint(rack, known_hosts=pins))

    assert str(refusal.value) == (
        f"shell: [{host.address}]:{host.port} has the host key {fingerprint(host.host_key, tmp_path)} (ssh-ed25519)"
        f", and {pins} has {fingerprint(another, tmp_path)} (ssh-ed25519);"
        " another machine may be answering; nothing was sent to it."
        " If the host was reinstalled, compare the fingerprint at its console, then replace the line."
    )


def test_a_host_that_lost_its_pinned_type_of_key_is_refused(rack, tmp_path):
    """A man in the middle could otherwise offer a type of key that nobody pinned."""
    host, pins = rack["shell"], tmp_path / "known_hosts"
    subprocess.run(["ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", tmp_path / "ecdsa"], check=True)
    pins.write_text(host.pin.replace(host.host_key, (tmp_path / "ecdsa.pub").read_text()))

    with pytest.raises(HostKeyRefused, match="has SHA256:.* \\(ecdsa-sha2-nistp256\\)"):
        Connection(host.endpoint(rack, known_hosts=pins))


@pytest.mark.parametrize(("port", "name"), [(22, "10.20.0.11"), (2222, "[10.20.0.11]:2222")])
def test_a_port_of_its_own_is_part_of_the_name(port, name):
    assert pin_name(endpoint(Path("known_hosts"), port)) == name


def test_a_hashed_name_pins_as_a_plain_one_does(tmp_path):
    pins, public = tmp_path / "known_hosts", new_key(tmp_path / "key")
    pins.write_text(f"# ours\n\n{HostKeys.hash_host('10.20.0.11')} {public} somebody\n10.20.0.12 {public}\n")

    assert [*pinned_keys(endpoint(pins))] == ["ssh-ed25519"]
    assert pinned_keys(endpoint(pins, port=2222)) == {}


def test_names_share_a_line_and_marked_lines_pin_nothing(tmp_path):
    pins, public = tmp_path / "known_hosts", new_key(tmp_path / "key")
    pins.write_text(f"@revoked 10.20.0.11 {public}\n")
    revoked = pinned_keys(endpoint(pins))
    pins.write_text(f"gpu-01,10.20.0.11 {public}\n")

    assert revoked == {}
    assert [*pinned_keys(endpoint(pins))] == ["ssh-ed25519"]


def test_a_damaged_line_is_named(tmp_path):
    pins = tmp_path / "known_hosts"
    pins.write_text("10.20.0.12 damaged too, and nobody's business\n10.20.0.11 ssh-ed25519 ????\n")

    with pytest.raises(SetupError, match=f"^{pins}:2: the line for 10.20.0.11 has no host key; "):
        pinned_keys(endpoint(pins))
    assert pinned_keys(replace(endpoint(pins), address="10.20.0.13")) == {}
