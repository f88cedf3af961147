"""Fleets that are valid and that no `up` could carry out: `check` refuses each, with place and way out."""

import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from rackwright import extras
from rackwright.errors import DeclarationError, SetupError
from rackwright.stack import feasible, load_stack
from tests.support.log import ROOT
from tests.support.stack_settings import configure, new_project

HEAD = "fleet: small\n"
HOST = """\
  {name}:
    os: {os}
    address: 192.0.2.{number}
    identity: {{serial: S-{number}}}
"""
KUBERNETES = """\
    roles:
      base: {}
      container_runtime: {engine: containerd, version: 2.4.2}
      kubernetes_node: {address: 192.0.2.1, pod_network: 10.244.1.0/24}
"""
TIER = """\
    drives:
      - {serial: B, boot: true}
      - {serial: D0, bus: nvme, size: 1TB, tier: hot}
      - {serial: D1, bus: nvme, size: 1TB, tier: hot}
    tiers: {hot: {level: raid1, filesystem: xfs, mount: /srv/hot, encryption: {key: {secret: hot_key}}}}
"""
PROVIDED = "    tiers: {warm: {provided: true, mount: /srv/warm}}\n"
STORE = """\
object_stores:
  archive:
    url: https://store.example:8333
    credentials: {access_key: rackwright, secret_key: {secret: archive_key}}
buckets: {models: {store: archive}}
"""
Check = Callable[..., str]


def host(name: str, number: int, more: str = "", os: str = "debian-12") -> str:
    return HOST.format(name=name, number=number, os=os) + more


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Check:
    """Return a function that checks a fleet, and returns the text of the errors."""
    new_project(tmp_path, monkeypatch, {})

    def checked(hosts: str, target: str = "twin:lab", before: str = "", after: str = "", **settings: object) -> str:
        (tmp_path / "stacks" / "small.yaml").write_text(f"{HEAD}{before}hosts:\n{hosts}{after}")
        configure(tmp_path, "lab", "small.yaml", target, **settings)
        monkeypatch.setattr("rackwright.stack.passphrase.check", lambda *_: None)
        monkeypatch.setattr("rackwright.stack.load.read_secret_lengths", lambda *_: {"hot_key": 64, "archive_key": 64})
        try:
            feasible.check(load_stack("lab", tmp_path))
        except (DeclarationError, SetupError) as error:
            return str(error)
        return ""

    return checked


def test_packages_of_our_own_need_a_mirror_on_a_rack(check: Check) -> None:
    """
    The message comes once, for all roles and hosts.
    """
    hosts = host("one", 1, KUBERNETES) + host("two", 2, KUBERNETES.replace("192.0.2.1,", "192.0.2.2,"))
    message = check(hosts, "rack")
    assert (
        "stacks/small.yaml:9: hosts.one.roles.container_runtime: got container_runtime and kubernetes_node" in message
    )
    assert "without a source of packages; no distribution has containerd 2.4.2-" in message
    assert "2 hosts need them" in message
    assert "Write `mirror: {}` into the fleet, and run `rackwright toolchain kubernetes`" in message
    assert message.count("source of packages") == 1
    assert check(hosts) == "", "a twin gets them from this computer"


@pytest.mark.parametrize("mirror", ["mirror: {}\n", "mirror: {url: 'https://mirror.example/'}\n"])
def test_a_mirror_is_a_source(check: Check, mirror: str) -> None:
    message = check(host("one", 1, KUBERNETES), "rack", before=mirror)
    assert "source of packages" not in message
    assert "there is no lock" in message, "which the mirror serves"


def test_containerd_alone_needs_a_source_too(check: Check) -> None:
    roles = "    roles: {base: {}, container_runtime: {engine: containerd, version: VERSION}}\n"
    message = check(host("one", 1, roles.replace("VERSION", "2.4.2")), "rack")
    assert "hosts.one.roles.container_runtime: got container_runtime without a source of packages" in message
    assert "repository" not in message
    assert check(host("one", 1, roles.replace("VERSION", "1.6.20")), "rack") == "", "Debian has it"


@pytest.mark.parametrize("target", ["rack", "twin:lab"])
def test_an_encrypted_tier_needs_its_program(check: Check, target: str) -> None:
    message = check(host("one", 1, TIER), target)
    assert "stacks/small.yaml:11: hosts.one.tiers.hot.encryption: got the encrypted tier hot" in message
    assert "cryptsetup-bin makes and opens LUKS, and no role of the host installs it" in message
    assert "Write `roles: {base: {packages: [cryptsetup-bin]}}`" in message
    for package in ("cryptsetup-bin", "cryptsetup"):
        assert check(host("one", 1, TIER + f"    roles: {{base: {{packages: [{package}]}}}}\n"), target) == ""
    assert check(host("one", 1, TIER.replace(", encryption: {key: {secret: hot_key}}", "")), target) == ""


def test_a_provided_tier_needs_a_container_on_a_twin(check: Check) -> None:
    hosts = host("one", 1, PROVIDED) + host("two", 2, PROVIDED) + host("three", 3)
    message = check(hosts)
    assert "stacks/small.yaml:7: hosts.one.tiers.warm: got a provided tier on one, two" in message
    assert "Add one, two to rackwright:containers in stacks/Pulumi.lab.yaml" in message
    assert message.count("provided tier") == 1
    message = check(hosts, containers=["two", "three"])
    assert "Add one to rackwright:containers" in message
    assert check(hosts, containers=["one", "two"]) == ""
    assert check(hosts, "rack") == ""


def test_a_host_with_drives_and_a_provided_tier_can_be_a_container(check: Check) -> None:
    tiers = TIER.replace("tiers: {", "tiers: {warm: {provided: true, mount: /srv/warm}, ")
    assert "the encrypted tier hot" in check(host("one", 1, tiers), containers=["one"])
    tiers = tiers.replace(", encryption: {key: {secret: hot_key}}", "")
    assert "Add one to rackwright:containers" in check(host("one", 1, tiers))
    assert check(host("one", 1, tiers), containers=["one"]) == ""


def test_a_twin_has_one_system(check: Check) -> None:
    message = check(host("one", 1, os="ubuntu-24.04") + host("two", 2) + host("three", 3, os="debian-13"))
    assert "hosts.one.os: got ubuntu-24.04 on one, three; hosts of a twin run debian-12" in message
    assert check(host("one", 1, os="ubuntu-24.04"), "rack") == ""


def test_buckets_need_the_library_for_s3(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    message = check(host("one", 1), "rack", after=STORE)
    assert message == "", message
    here = extras.find_spec

    def without(name: str) -> ModuleSpec | None:
        return None if name == "boto3" else here(name)

    monkeypatch.setattr(extras, "find_spec", without)
    message = check(host("one", 1), "rack", after=STORE)
    assert "boto3 is not installed on this computer; the library for the object stores archive" in message
    assert f"Run `{sys.executable} -m pip install --require-hashes --requirement {ROOT}/requirements/s3.txt`" in message
    assert check(host("one", 1), "rack") == ""


def test_several_causes_come_at_once(check: Check) -> None:
    message = check(host("one", 1, TIER) + host("two", 2, KUBERNETES), "rack")
    assert "encrypted tier" in message
    assert "source of packages" in message
