"""The way between two hosts: chosen as declared, and judged by what the interfaces counted."""

from typing import Any

import pytest

from rackwright.errors import DeclarationError
from rackwright.qualify.bench import unit_command
from rackwright.qualify.network_path import NetworkPath, PathEndpoint, find_path, network_item
from rackwright.schema.host import Host


def host(number: int, *nics: dict[str, Any], **more: Any) -> Host:
    return Host.model_validate(
        {
            "address": f"192.0.2.{number}",
            "identity": {"serial": f"C{number}"},
            "os": "debian-12",
            "nics": [{"mac": f"52:54:00:00:{number:02x}:{index:02x}", **nic} for index, nic in enumerate(nics)],
            **more,
        }
    )


def nic(name: str, *addresses: str) -> dict[str, Any]:
    return {"name": name, "addresses": list(addresses)}


MGMT, FABRIC = (
    [nic("mgmt0", f"198.51.100.{n}/24") for n in (1, 2)],
    [nic("fabric0", f"203.0.113.{n}/24") for n in (1, 2)],
)


def test_the_fabric_is_taken_before_other_networks():
    hosts = {
        "alpha": host(1, MGMT[0], FABRIC[0], network={"fabric": "fabric0"}),
        "beta": host(2, MGMT[1], FABRIC[1]),
        "gamma": host(3, nic("eth0", "203.0.113.9/24")),
    }

    assert find_path(hosts, "alpha", "beta") == NetworkPath(
        PathEndpoint("alpha", "203.0.113.1", "fabric0"), PathEndpoint("beta", "203.0.113.2", "fabric0")
    )
    assert find_path(hosts, "beta", "alpha").own.interface == "mgmt0"  # none of its links is declared to be the fabric
    assert find_path(hosts, "beta", "gamma").peer == PathEndpoint("gamma", "203.0.113.9", "eth0")


def test_a_bond_is_an_interface_by_its_name():
    bond = {"bonds": {"bond0": {"members": ["a", "b"], "mode": "802.3ad", "addresses": ["203.0.113.1/24"]}}}
    hosts = {"alpha": host(1, nic("a"), nic("b"), network=bond), "beta": host(2, FABRIC[1])}

    assert find_path(hosts, "alpha", "beta").own.interface == "bond0"


def test_hosts_that_share_no_network_are_refused():
    with pytest.raises(DeclarationError, match="alpha and beta share no network"):
        find_path({"alpha": host(1, MGMT[0]), "beta": host(2, FABRIC[1])}, "alpha", "beta")


WAY = NetworkPath(PathEndpoint("alpha", "203.0.113.1", "fabric0"), PathEndpoint("beta", "203.0.113.2", "fabric0"))


def transfer(count: int, **interfaces: int) -> dict[str, object]:
    return {"bytes": count, "seconds": 2.0, "interfaces": interfaces}


def test_what_went_over_the_declared_interfaces_is_reported_with_its_name():
    found = network_item(
        "network to beta",
        WAY,
        transfer(8 * 10**9, fabric0=8 * 10**9 + 1000),
        transfer(8 * 10**9, fabric0=9 * 10**9, lo=5),
    )

    assert (found.state, found.figures[0].value) == ("measured", 4.0)
    assert found.details == "fabric0 (203.0.113.1) to fabric0 (203.0.113.2)"


@pytest.mark.parametrize(
    ("sent", "received", "expected"),
    [
        ({"mgmt0": 900, "fabric0": 10}, {"fabric0": 900}, "on alpha the traffic used mgmt0, not fabric0"),
        ({"fabric0": 900}, {"mgmt0": 900}, "on beta the traffic used mgmt0, not fabric0"),
        ({}, {"fabric0": 900}, "on alpha the traffic used no interface, not fabric0"),
    ],
)
def test_another_interface_than_declared_is_short_and_both_are_named(sent, received, expected):
    found = network_item("network to beta", WAY, transfer(900, **sent), transfer(900, **received))

    assert found.state == "short"
    assert found.details == expected


def test_a_measuring_program_has_an_account_of_its_own_and_an_end():
    command = unit_command(("tool", "$HOME"), "unit-1", "alpha/qualify: x", 90.4, {"NCCL_DEBUG": "INFO"})

    assert command[0] == "systemd-run"
    assert {"--property=DynamicUser=yes", "--property=RuntimeMaxSec=90", "--setenv=NCCL_DEBUG=INFO"} < {*command}
    assert command[-3:] == ("--", "tool", "$$HOME")
