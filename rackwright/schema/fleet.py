"""The fleet, the root of a declaration, and the checks across its hosts."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from rackwright.schema import formats
from rackwright.schema.allow import Allow
from rackwright.schema.base import Many, Schema
from rackwright.schema.cluster import Cluster
from rackwright.schema.host import Host, HostName, Name
from rackwright.schema.mirror import Mirror
from rackwright.schema.monitoring import Monitoring
from rackwright.schema.network import Network, links
from rackwright.schema.object_store import Bucket, BucketName, ObjectStore
from rackwright.schema.problem import Keys, Problem
from rackwright.schema.rollout import Rollout
from rackwright.schema.run import Run
from rackwright.schema.secret import Key
from rackwright.schema.server import Server
from rackwright.schema.tier_costs import Costs
from rackwright.schema.tier_placement import PlacementRule

MD_NAME_MAX = 32
"""Bytes in the md superblock for ``host:tier``. Source: md_p.h, set_name."""


class Fleet(Schema):
    """Hosts that are declared together under one name, or runs and servers on the hosts of another fleet."""

    fleet: Name
    """Name of the fleet."""
    rollout: Rollout = Rollout()
    """Order and limits in which changes of software, access and network reach the hosts."""
    mirror: Mirror | None = None
    """Source of the packages in the fleet's lock; without it, each host has its own sources."""
    allow: Many[Allow] = ()
    """Undeclared things on hosts that are meant to be there; audits show them as allowed."""
    hosts: dict[HostName, Host]
    """All hosts by name."""
    clusters: dict[Name, Cluster] = Field(default_factory=dict)
    """Clusters of Kubernetes on these hosts, by name."""
    object_stores: dict[Name, ObjectStore] = Field(default_factory=dict)
    """Servers that speak S3, by name."""
    buckets: dict[BucketName, Bucket] = Field(default_factory=dict)
    """Buckets in these object stores, by name."""
    placement: dict[Name, PlacementRule] = Field(default_factory=dict)
    """Rules that move directories to another tier or to a bucket, by name."""
    costs: Costs | None = None
    """Capacity and prices of the tiers, which `rackwright tier bench` compares."""
    monitoring: Monitoring | None = None
    """Prometheus and Alertmanager for all hosts; without it, hosts have no exporters beside those of their roles."""
    uses: str | None = None
    """File of the fleet that declares the hosts; this fleet then has only runs and servers on them."""
    key: Key = Field(default_factory=lambda: {"secret": "training_key"})
    """Secret from which the keys of runs, and of hosts that query their own servers, are derived."""
    runs: dict[Name, Run] = Field(default_factory=dict)
    """Training runs on these hosts, by name."""
    servers: dict[Name, Server] = Field(default_factory=dict)
    """Model servers on these hosts, by name."""


def rollout_problems(rollout: Rollout, hosts: Mapping[str, Host]) -> Iterator[Problem]:
    """Yield the problem of a *rollout* whose canary is more than all *hosts*; paths are relative to the fleet."""
    count = sum(not host.retired for host in hosts.values())
    if count and rollout.canary > count:
        problem = f"got a canary of {rollout.canary} for {count} {'host' if count == 1 else 'hosts'}"
        expected = "a canary is a part of the hosts, which changes before the others"
        yield Problem(problem, expected, "Lower it", ("rollout", "canary"))


def problems(hosts: Mapping[str, Host]) -> Iterator[Problem]:
    """Yield the conflicts between *hosts*; paths are relative to the fleet."""
    hosts = {name: host for name, host in hosts.items() if not host.retired}
    for values in (_identities, _addresses, _macs, _port_addresses, _drives, _arrays):
        yield from _duplicate_values(hosts, values)
    for name, host in hosts.items():
        for tier, declared in host.tiers.items():
            if declared.array is None and len(f"{name}:{tier}".encode()) > MD_NAME_MAX:
                expected = f"the name of an array, host:tier, has {MD_NAME_MAX} bytes at most"
                help = "Shorten the name of the host or of the tier"
                yield Problem(f"got {name}:{tier}", expected, help, ("hosts", name, "tiers", tier), "md superblock 1.x")
    yield from _mtu_problems(hosts)
    yield from _rack_problems(hosts)


@dataclass(frozen=True, slots=True)
class Station:
    """One address of a host in an IP network."""

    host: str
    path: Keys
    """Keys of the address's link, relative to the host."""
    address: str
    mtu: int

    @property
    def is_virtual(self) -> bool:
        """Whether the link is a bond or a VLAN."""
        return self.path[0] == "network"


def stations(hosts: Mapping[str, Host]) -> dict[formats.Network, list[Station]]:
    """Return all declared addresses by IP network, in the order of declaration."""
    result: dict[formats.Network, list[Station]] = {}
    for name, host in hosts.items():
        for link in links(host.network or Network(), host.nics).values():
            for interface in map(formats.parse_interface, link.addresses):
                station = Station(name, link.path, str(interface.ip), link.mtu)
                result.setdefault(interface.network, []).append(station)
    return result


def _mtu_problems(hosts: Mapping[str, Host]) -> Iterator[Problem]:
    """Yield a problem for each link whose MTU differs from the most common one in its network."""
    for network, several in stations(hosts).items():
        [(common, _)] = Counter(station.mtu for station in several).most_common(1)
        usual = next(station for station in several if station.mtu == common)
        for station in several:
            if station.mtu != common:
                other = "another link of this host" if usual.host == station.host else usual.host
                expected = f"{other} has {common} in {network}, and a network has one MTU"
                path, also = ("hosts", station.host, *station.path, "mtu"), ("hosts", usual.host, *usual.path, "mtu")
                yield Problem(f"got {station.mtu}", expected, "Give both the same", path, also=also)


def _rack_problems(hosts: Mapping[str, Host]) -> Iterator[Problem]:
    """Yield a problem for each host that shares a unit of its rack with a host before it."""
    taken: dict[tuple[str, int], str] = {}
    for name, host in hosts.items():
        if (place := host.rack) is None:
            continue
        units = [(place.name, unit) for unit in range(place.unit, place.top + 1)]
        if shared := [unit for unit in units if unit in taken]:
            other = taken[shared[0]]
            note = f"{other} has unit {shared[0][1]} of rack {place.name} already"
            problem = f"got unit {place.unit} with height {place.height}"
            where, also = (("hosts", each, "rack", "unit") for each in (name, other))
            yield Problem(
                problem, "a unit of a rack has one host", "Correct one of the two", where, note=note, also=also
            )
        taken |= {unit: name for unit in units if unit not in taken}


Value = tuple[Keys, Any, str]
"""Keys below the host, a value that must be unique, and the noun for it in messages."""


def _identities(host: Host) -> Iterator[Value]:
    for field, value in host.identity.model_dump(exclude_none=True).items():
        yield ("identity", field), value, "that identity"


def _addresses(host: Host) -> Iterator[Value]:
    # the same address behind two jump hosts, or two ports of one router, may be two machines
    yield ("address",), host.address and (host.address, host.ssh.port, host.ssh.jump), "that address"


def _macs(host: Host) -> Iterator[Value]:
    for index, nic in enumerate(host.nics):
        yield ("nics", index, "mac"), nic.mac, "that MAC address"


def _port_addresses(host: Host) -> Iterator[Value]:
    for index, nic in enumerate(host.nics):
        yield from _each(("nics", index), nic.addresses)
    network = host.network or Network()
    for kind, virtual in (("bonds", network.bonds), ("vlans", network.vlans)):
        for name, link in virtual.items():
            yield from _each(("network", kind, name), link.addresses)


def _each(place: Keys, addresses: Iterable[str]) -> Iterator[Value]:
    for number, address in enumerate(addresses):
        yield (*place, "addresses", number), address.split("/")[0], "that address"


def _drives(host: Host) -> Iterator[Value]:
    for index, drive in enumerate(host.drives):
        yield ("drives", index, "serial"), drive.serial, f"that drive{f' in tier {drive.tier}' if drive.tier else ''}"


def _arrays(host: Host) -> Iterator[Value]:
    for name, tier in host.tiers.items():
        yield ("tiers", name, "array"), tier.array, "that array"


def _duplicate_values(hosts: Mapping[str, Host], values: Callable[[Host], Iterator[Value]]) -> Iterator[Problem]:
    """Yield a problem for each value that appears a second time, in the same host or another one."""
    first: dict[Any, tuple[str, Keys, str]] = {}
    for name, host in hosts.items():
        for path, value, noun in values(host):
            if not value:
                continue  # the field's own check reports it
            if value not in first:
                first[value] = (name, path, noun)
                continue
            other, other_path, other_noun = first[value]
            note = f"{'this host' if other == name else other} has {other_noun} already"
            problem = f"got {(value[0] if isinstance(value, tuple) else value)!r}"
            place, also = ("hosts", name, *path), ("hosts", other, *other_path)
            yield Problem(problem, "a value that appears once", "Correct one of the two", place, note=note, also=also)
