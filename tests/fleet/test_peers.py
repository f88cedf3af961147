"""Who is whose peer, and after what the way between them is looked at."""

from collections import Counter
from pathlib import Path
from typing import Any

from rackwright.core.repository import Repository
from rackwright.kinds.peers import PeersSpec
from rackwright.schema import Fleet
from rackwright.stack import DeclaredResource, Stack, declare
from rackwright.stack.resources import PEERS_MAX

ROOT = Path(__file__).parents[2]


def host(number: int, *addresses: tuple[str, ...], **more: Any) -> dict[str, Any]:
    """Return a host with a port for each list of addresses, the first of them its fabric."""
    nics = [
        {"name": f"port{port}", "mac": f"00:00:5e:00:{number:02x}:{port:02x}", "mtu": 9000, "addresses": list(several)}
        for port, several in enumerate(addresses)
    ]
    return {
        "address": f"192.0.2.{number}", "identity": {"serial": f"S{number}"}, "os": "debian-12", "nics": nics, **more
    }  # fmt: skip


def peers(hosts: dict[str, dict[str, Any]]) -> dict[str, DeclaredResource]:
    fleet = Fleet.model_validate({"fleet": "lab", "hosts": hosts})
    resources = declare(Stack("lab", ROOT, fleet, {}, Repository.load(ROOT, b"salt"), b"salt"))
    last = [resource for resource in resources if isinstance(resource.spec, PeersSpec)]
    assert last == list(resources[len(resources) - len(last) :])
    return {resource.spec.host: resource for resource in last}


def ways(resource: DeclaredResource) -> list[tuple[str, str, str]]:
    assert isinstance(resource.spec, PeersSpec)
    return [(path.peer, path.own, path.to) for path in resource.spec.paths]


MANAGED: dict[str, Any] = {"network": {"fabric": "port0"}}


def test_peers_are_the_other_hosts_of_ones_own_networks() -> None:
    """
    One that only says its addresses is a peer and has none; one that is in no network with others is alone.
    """
    found = peers(
        {
            "alpha": host(1, ("198.51.100.1/24",), ("203.0.113.1/24", "2001:db8::1/64"), **MANAGED),
            "beta": host(2, ("198.51.100.2/24",), **MANAGED),
            "gamma": host(3, ("203.0.113.3/24",)),
            "delta": host(4, ("198.51.100.131/25",), **MANAGED),
        }
    )

    assert {name: ways(resource) for name, resource in found.items()} == {
        "alpha": [("beta", "198.51.100.1", "198.51.100.2"), ("gamma", "203.0.113.1", "203.0.113.3")],
        "beta": [("alpha", "198.51.100.2", "198.51.100.1")],
    }


def test_a_way_comes_after_the_networks_at_both_its_ends() -> None:
    found = peers(
        {
            "alpha": host(1, ("198.51.100.1/24",), **MANAGED),
            "beta": host(2, ("198.51.100.2/24",), **MANAGED),
            "gamma": host(3, ("198.51.100.3/24",)),
        }
    )

    assert found["alpha"].after == ("alpha", "alpha/network", "beta/network")
    assert found["beta"].after == ("beta", "beta/network", "alpha/network")


def test_every_address_of_a_peer_is_reached_from_the_first_of_ones_own() -> None:
    found = peers(
        {
            "alpha": host(1, ("198.51.100.1/24", "198.51.100.11/24"), **MANAGED),
            "beta": host(2, ("198.51.100.2/24",), ("198.51.100.12/24",), **MANAGED),
        }
    )

    assert {name: ways(resource) for name, resource in found.items()} == {
        "alpha": [("beta", "198.51.100.1", "198.51.100.2"), ("beta", "198.51.100.1", "198.51.100.12")],
        "beta": [("alpha", "198.51.100.2", "198.51.100.1"), ("alpha", "198.51.100.2", "198.51.100.11")],
    }


def large_network(count: int) -> dict[str, set[str]]:
    """Return the peers of each host of a network with *count* hosts."""
    numbers = range(1, count + 1)
    hosts = {f"node-{number:03}": host(number, (f"198.51.100.{number}/24",), **MANAGED) for number in numbers}
    return {name: {peer for peer, _, _ in ways(resource)} for name, resource in peers(hosts).items()}


def test_a_host_of_a_large_network_has_few_peers_and_each_port_is_measured() -> None:
    found = large_network(PEERS_MAX + 30)
    measured_by = Counter(peer for several in found.values() for peer in several)

    assert {len(several) for several in found.values()} == {PEERS_MAX}
    assert set(measured_by.values()) == {PEERS_MAX} and measured_by.keys() == found.keys()
    assert not any(name in several for name, several in found.items())


def test_all_others_are_peers_in_a_network_of_usual_size() -> None:
    found = large_network(PEERS_MAX + 1)

    assert all(several == {*found} - {name} for name, several in found.items())


def test_one_more_host_changes_the_peers_of_few_others() -> None:
    before, after = large_network(PEERS_MAX + 30), large_network(PEERS_MAX + 31)

    assert sum(before[name] != after[name] for name in before) == PEERS_MAX
