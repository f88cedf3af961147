"""A host's network as it is declared: what follows from a short declaration, and the environment of workloads."""

from typing import Any

import pytest
from pydantic import ValidationError

from rackwright.schema import Host, Nic
from rackwright.schema.network import environment, links, route_link

PORTS = [
    {"name": "fabric0", "mac": "52:54:00:00:00:01", "mtu": 9000},
    {"name": "fabric1", "pci": "3B:00.1", "mtu": 9000},
    {"name": "edge", "mac": "52:54:00:00:00:03"},
]
BOND = {"bond0": {"members": ["fabric0", "fabric1"], "mode": "802.3ad", "addresses": ["10.30.0.11/24"]}}


def host(network: dict[str, Any] | None, nics: list[dict[str, Any]] = PORTS) -> Host:
    more = {} if network is None else {"network": network}
    return Host.model_validate(
        {"address": "192.0.2.1", "identity": {"serial": "S1"}, "os": "debian-12", "nics": nics, **more}
    )


def test_sizes_come_from_below():
    """
    A bond has the size of its members, a VLAN that of its link unless it says less.
    """
    of = host({"bonds": BOND, "vlans": {"a": {"link": "bond0", "id": 1}, "b": {"link": "bond0", "id": 2, "mtu": 1500}}})
    assert of.network is not None

    found = links(of.network, of.nics)

    assert {name: link.mtu for name, link in found.items()} == {
        "fabric0": 9000,
        "fabric1": 9000,
        "edge": 1500,
        "bond0": 9000,
        "a": 9000,
        "b": 1500,
    }


def test_the_only_link_with_addresses_is_the_fabric():
    assert host({"bonds": BOND}).fabric == "bond0"
    assert host({}).fabric is None
    assert host(None, [{**PORTS[0], "addresses": ["10.30.0.11/24"]}]).fabric is None


def test_of_several_links_with_addresses_the_fabric_is_the_one_that_is_named():
    nics = [*PORTS[:2], {**PORTS[2], "addresses": ["10.0.0.1/24"]}]

    assert host({"bonds": BOND, "fabric": "edge"}, nics).fabric == "edge"
    with pytest.raises(ValidationError, match="Add `fabric: edge`, or another of them"):
        host({"bonds": BOND}, nics)


def test_a_route_leads_over_the_link_that_reaches_its_next_hop():
    of = host({"bonds": BOND, "routes": [{"to": "default", "via": "10.30.0.1"}]})
    assert of.network is not None
    [route] = of.network.routes

    assert route_link(route, links(of.network, of.nics)) == "bond0"
    assert route.destination == "0.0.0.0/0"


def test_no_library_takes_a_name_for_the_beginning_of_another():
    """
    To NCCL `bond1` is also `bond10`, unless the variable says otherwise.
    """
    variables = environment("bond1")

    assert variables["NCCL_SOCKET_IFNAME"] == "=bond1"
    assert {variables["GLOO_SOCKET_IFNAME"], variables["OMPI_MCA_btl_tcp_if_include"]} == {"bond1"}


def test_a_place_on_pci_is_written_in_full():
    assert Nic(name="a", pci="3B:00.1").pci == "0000:3b:00.1"
