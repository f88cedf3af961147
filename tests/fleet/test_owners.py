"""Two resources of a host that would own the same thing or have the same name."""

from pathlib import Path

import pytest

from rackwright.core.repository import Repository, Roles, RoleSource
from rackwright.errors import DeclarationError
from rackwright.schema import Fleet
from rackwright.stack import Stack, declare

ROOT = Path(__file__).parents[2]
HOST = {
    "address": "192.0.2.1",
    "identity": {"serial": "S1"},
    "os": "debian-12",
    "nics": [{"name": "fabric0", "mac": "00:00:5e:00:53:01"}],
    "roles": {"names": {}},
}
NAMES = RoleSource(
    "names", by_os={"debian-12": {}}, claims=({"file": "/etc/resolv.conf", "content": "nameserver 192.0.2.53\n"},)
)


def stack(network: dict[str, object], **more: object) -> Stack:
    repository = Repository(Repository.load(ROOT, b"salt").templates, {**Roles(ROOT), "names": NAMES}, b"salt")
    fleet = Fleet.model_validate({"fleet": "lab", "hosts": {"alpha": {**HOST, "network": network, **more}}})
    return Stack("lab", ROOT, fleet, {}, repository, b"salt")


def test_a_file_of_a_network_and_of_a_role_is_refused_with_both_named():
    with pytest.raises(DeclarationError) as caught:
        declare(stack({"dns": {"addresses": ["192.0.2.53"]}}))

    assert str(caught.value) == (
        "hosts.alpha.roles.names: got file /etc/resolv.conf, which belongs to alpha/network; a file has one owner."
        " Remove it from the settings of alpha/names or alpha/network, or move one of them to another host."
    )


def test_without_name_servers_no_resource_claims_the_file():
    assert [declared.name for declared in declare(stack({}))] == ["alpha", "alpha/network", "alpha/names"]


@pytest.mark.parametrize(("tier", "noun"), [("network", "Network"), ("names", "Role")])
def test_a_tier_with_the_name_of_another_resource_is_refused(tier: str, noun: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        declare(stack({}, tiers={tier: {"provided": True, "mount": "/srv/a"}}))

    assert str(caught.value) == (
        f"hosts.alpha.tiers.{tier}: got the tier {tier}; each resource of a host has its own name;"
        f" the {noun} resource of this host has that name. Give the tier another name."
    )
