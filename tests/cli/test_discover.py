"""`rackwright discover`, as typed, against SSH servers of simulated hosts."""

import base64
import json
import subprocess
from collections.abc import Iterator

import pytest

from rackwright.fleet.load import load_fleet
from rackwright.hosts.pins import fingerprint
from tests.support import recorded_facts, warm_command
from tests.support.our_roles import ROLES
from tests.support.simulated import SimulatedRack


@pytest.fixture
def rack() -> Iterator[SimulatedRack]:
    with SimulatedRack({"one": recorded_facts.raw(recorded_facts.TODAY)}) as rack:
        yield rack


def discover(rack: SimulatedRack, *options: str, host: str = "one") -> subprocess.CompletedProcess[str]:
    one = rack[host]
    address = f"{rack.user}@{one.address}:{one.port}"
    return warm_command.run("discover", address, "--key", str(rack.key), *options, cwd=rack.directory)


def shown(rack: SimulatedRack) -> str:
    return fingerprint(base64.b64decode(rack["one"].host_key.split()[1]))


def test_an_untrusted_key_ends_it(rack):
    done = discover(rack, "--into", "fleet.yaml")

    assert (done.returncode, done.stdout) == (2, "")
    assert f"its host key {shown(rack)} is not trusted\n  note:     nothing was sent to the host" in done.stderr
    assert f"--fingerprint {shown(rack)}" in done.stderr
    assert not (rack.directory / "fleet.yaml").exists()
    assert not (rack.directory / "fleet.known_hosts").exists()


def test_hosts_are_added_with_their_keys_and_once(rack):
    done = discover(rack, "--into", "fleet.yaml", "--fingerprint", shown(rack))
    assert done.returncode == 0, done.stderr
    path = rack.directory / "fleet.yaml"
    host = load_fleet(path, ROLES).hosts["gpu-01"]

    assert (host.address, host.ssh.port) == (rack["one"].address, rack["one"].port)
    [login] = host.ssh.logins
    assert (login.user, login.key) == (rack.user, str(rack.key))
    assert (rack.directory / "fleet.known_hosts").read_text() == rack["one"].pin

    before = path.read_text()
    again = discover(rack, "--into", "fleet.yaml")
    assert again.returncode == 2, "its key is pinned, and it is there"
    assert "hosts.gpu-01: the host gpu-01 is declared already" in again.stderr
    assert path.read_text() == before


@pytest.mark.parametrize("pinned", ["", "192.0.2.9 ssh-ed25519 AAAA\n"], ids=["no-file", "file"])
def test_a_refused_fleet_leaves_no_pin(rack, pinned):
    """
    The key is trusted and pinned, and then the lines turn out to be no valid fleet.
    """
    facts = recorded_facts.raw(recorded_facts.TODAY)
    rack["one"].set_facts(facts | {"os": {"id": "debian", "version_id": "10"}})
    pins = rack.directory / "fleet.known_hosts"
    if pinned:
        pins.write_text(pinned)

    done = discover(rack, "--into", "fleet.yaml", "--fingerprint", shown(rack))

    assert done.returncode == 2
    assert "the lines below are no valid fleet yet" in done.stderr
    assert "got 'debian-10'\n  expected: " in done.stderr, "the expectation is not printed as a fact"
    assert not (rack.directory / "fleet.yaml").exists()
    assert (pins.read_text() if pins.exists() else "") == pinned


def test_machines_get_json_and_nothing_is_written(rack):
    done = discover(rack, "--json", "--fingerprint", shown(rack))

    report = json.loads(done.stdout)
    assert report["hosts"]["gpu-01"]["declaration"]["identity"] == {"serial": "CHASSIS-F1"}
    assert report["hosts"]["gpu-01"]["notes"]
    assert not list(rack.directory.glob("*.yaml"))


def test_a_host_that_is_off_is_reported_and_takes_no_other_along(rack):
    on = f"{rack.user}@{rack['one'].address}:{rack['one'].port}"
    trusted = ("--key", str(rack.key), "--fingerprint", shown(rack))
    done = warm_command.run("discover", "127.1.9.9:9", on, *trusted, cwd=rack.directory)

    assert done.returncode == 3
    assert "127.1.9.9: " in done.stderr
    assert "  gpu-01:\n" in done.stdout


def test_an_address_that_is_none_is_reported_before_anything_is_asked(rack):
    done = warm_command.run("discover", "a@b@c", cwd=rack.directory)

    assert done.returncode == 2
    assert "b@c" in done.stderr
    assert "looking at" not in done.stderr
