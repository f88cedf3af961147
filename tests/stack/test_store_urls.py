"""The stores of a rehearsal: stand-ins on this computer, and never a real one."""

import json
from pathlib import Path

import pytest

from rackwright.errors import DeclarationError
from rackwright.stack import Stack, declare, load_stack
from tests.support.stack_settings import encrypted_secrets

FLEET = """\
fleet: stores
hosts: {}
object_stores:
  archive:
    url: https://store.example:8333
    credentials: {access_key: rackwright, secret_key: {secret: archive_key}}
buckets:
  models: {store: archive}
"""
HOSTS = """\
hosts:
  store-1:
    address: 192.0.2.11
    identity: {serial: S1}
    os: debian-12
    roles:
      base: {}
      object_store:
        address: 192.0.2.21
        accounts: [{name: rackwright, admin: true, key: {secret: archive_key}}]
        certificate: "-----BEGIN CERTIFICATE-----"
        authority: "-----BEGIN CERTIFICATE-----"
        key: {secret: store_tls}
        internal_key: {secret: store_internal}
"""
PLACE = "    url: https://192.0.2.21:8333\n    hosts: [store-1]\n"
STAND_IN = '  rackwright:object_stores: {archive: "http://127.0.0.1:8333"}\n'


def load(directory: Path, target: str, settings: str = "", fleet: str = FLEET) -> Stack:
    (directory / "stacks").mkdir(exist_ok=True)
    (directory / "stacks" / "fleet.yaml").write_text(fleet)
    config = f"config:\n  rackwright:fleet: fleet.yaml\n  rackwright:target: {target}\n{settings}"
    secrets = json.dumps(encrypted_secrets("archive_key" if target == "rack" else "store_tls"))
    (directory / "stacks" / "Pulumi.one.yaml").write_text(f"{config}  rackwright:secrets: {secrets}\n")
    return load_stack("one", directory)


@pytest.fixture(autouse=True)
def _passphrase(monkeypatch):
    monkeypatch.setattr("rackwright.stack.passphrase.check", lambda *arguments: None)


def test_a_rack_has_the_stores_of_its_fleet(tmp_path):
    stack = load(tmp_path, "rack")

    assert stack.store_urls == {"archive": "https://store.example:8333"}
    assert [each.name for each in declare(stack)] == ["archive/models"]
    assert stack.unknown_secrets == {"archive_key"}


@pytest.mark.parametrize("own", ["", ", gateway: 192.0.2.21"])
def test_a_host_of_disks_comes_after_its_gateway(tmp_path, own):
    """Its parts do not listen until they have reached the master on the gateway."""
    host = HOSTS.removeprefix("hosts:\n").replace("store-1", "store-0").replace("192.0.2.11", "192.0.2.12")
    disks = host.replace("S1", "S0").replace("address: 192.0.2.21", "address: 192.0.2.22\n        gateway: 192.0.2.21")
    store = HOSTS.replace("address: 192.0.2.21", f"address: 192.0.2.21{own.replace(', ', chr(10) + ' ' * 8)}")
    stack = load(tmp_path, "twin:one", fleet=FLEET.replace("hosts: {}\n", store + disks))

    after = {each.name: each.after for each in declare(stack)}

    assert "store-1/object_store" in after["store-0/object_store"]
    assert not [name for name in after["store-1/object_store"] if name.startswith("store-0")]


def test_a_rehearsal_without_a_stand_in_leaves_buckets_out_with_a_notice(tmp_path):
    stack = load(tmp_path, "twin:one")

    assert (stack.store_urls, declare(stack), stack.endpoint_sources) == ({}, (), ())
    assert any("the buckets of archive are left out" in notice for notice in stack.notices)


def test_a_rehearsal_has_the_stand_ins_of_its_settings(tmp_path):
    stack = load(tmp_path, "twin:one", STAND_IN)

    assert stack.store_urls == {"archive": "http://127.0.0.1:8333"}
    assert [each.name for each in declare(stack)] == ["archive/models"]


OWN = FLEET.replace("hosts: {}\n", HOSTS).replace("    url: https://store.example:8333\n", PLACE)


@pytest.mark.parametrize(
    ("url", "urls"),
    [
        ("https://192.0.2.21:8333", {"archive": "https://192.0.2.21:8333"}),
        ("https://192.0.2.99:8333", {}),
    ],
)
def test_a_rehearsal_has_the_store_on_its_own_hosts_and_no_other(tmp_path, url, urls):
    """
    The address of a store that no role of its hosts has is that of another server, which may be a real one.
    """
    stack = load(tmp_path, "twin:one", fleet=OWN.replace("https://192.0.2.21:8333", url))

    assert stack.store_urls == urls
    assert stack.store_hosts == dict.fromkeys(urls, "store-1")
    assert [each.name for each in declare(stack) if "/models" in each.name] == ["archive/models"] * len(urls)


@pytest.mark.parametrize(
    ("target", "settings", "message"),
    [
        ("rack", STAND_IN, "got stand-ins for object stores"),
        ("twin:one", STAND_IN.replace("127.0.0.1", "store.example"), "a rehearsal changes no real store"),
        ("twin:one", STAND_IN.replace("archive", "archives"), "Write archive"),
        ("twin:one", "  rackwright:object_stores: lent\n", "got 'lent'; addresses by name of an object store"),
    ],
)
def test_other_stand_ins_are_refused(tmp_path, target, settings, message):
    with pytest.raises(DeclarationError, match=message):
        load(tmp_path, target, settings)
