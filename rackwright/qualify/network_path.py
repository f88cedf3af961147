"""The declared network path between two hosts, and the item of its measurement."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

from rackwright.errors import DeclarationError, Diagnostic
from rackwright.qualify.item import Figure, Item, make_item
from rackwright.schema.fleet import Station, stations
from rackwright.schema.host import Host


@dataclass(frozen=True)
class PathEndpoint:
    """One end of a network path."""

    host: str
    address: str
    interface: str
    """Name of the port, bond or VLAN that has the address."""


@dataclass(frozen=True)
class NetworkPath:
    """The path from one host to another."""

    own: PathEndpoint
    peer: PathEndpoint

    @property
    def text(self) -> str:
        return f"{self.own.interface} ({self.own.address}) to {self.peer.interface} ({self.peer.address})"


def find_path(hosts: Mapping[str, Host], name: str, peer: str) -> NetworkPath:
    """Return the path from *name* to *peer*, over the fabric of *name* if both hosts are in it.

    Raises:
        DeclarationError: no network contains both hosts.
    """
    paths = [
        NetworkPath(_endpoint(hosts, own), _endpoint(hosts, other))
        for several in stations(hosts).values()
        for own, other in product(several, several)
        if (own.host, other.host) == (name, peer)
    ]
    if not paths:
        problem = f"{name} and {peer} share no network"
        help = "Declare their addresses under nics, or name another peer"
        raise DeclarationError(Diagnostic(f"{name}: peer {peer}", problem, "a common network", help))
    return next((path for path in paths if path.own.interface == hosts[name].fabric), paths[0])


def _endpoint(hosts: Mapping[str, Host], station: Station) -> PathEndpoint:
    *_, last = station.path
    interface = hosts[station.host].nics[last].name if isinstance(last, int) else str(last)
    return PathEndpoint(station.host, station.address, interface)


def network_item(name: str, path: NetworkPath, sent: Mapping[str, object], received: Mapping[str, object]) -> Item:
    """Return the item of *path* from the reports of the sender and the receiver.

    Traffic over another interface than the declared one makes the item short, at any speed.
    """
    count, seconds = _number(received["bytes"]), _number(received["seconds"])
    shortfalls = [
        f"on {end.host} the traffic used {busiest}, not {end.interface}"
        for end, report in ((path.own, sent), (path.peer, received))
        if (busiest := _busiest_interface(report["interfaces"], end.interface, count)) != end.interface
    ]
    rate = Figure("TCP", count / seconds / 1e9, "GB/s")
    return make_item(name, [rate], shortfalls, "" if shortfalls else path.text)


def _busiest_interface(interfaces: object, expected: str, count: float) -> str:
    """Return the interface of *count* bytes: *expected* if its counter grew by as many, else the busiest one."""
    assert isinstance(interfaces, Mapping)
    if interfaces.get(expected, 0) >= count:
        return expected
    return str(max(interfaces, key=lambda name: interfaces[name], default="no interface"))


def _number(value: object) -> float:
    assert isinstance(value, int | float)
    return float(value)
