"""Over which links two hosts reach each other, as they are declared."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

from rackwright.errors import DeclarationError
from rackwright.qualify.item import Figure, Item, judged
from rackwright.schema.fleet import Station, stations
from rackwright.schema.host import Host


@dataclass(frozen=True)
class End:
    """One end of a way."""

    host: str
    address: str
    interface: str
    """Name of the port, bond or VLAN that has the address."""


@dataclass(frozen=True)
class Way:
    """From one host to another."""

    own: End
    peer: End

    @property
    def text(self) -> str:
        return f"{self.own.interface} ({self.own.address}) to {self.peer.interface} ({self.peer.address})"


def between(hosts: Mapping[str, Host], name: str, peer: str) -> Way:
    """Return the way from *name* to *peer*: over the fabric of *name*, if that is a network of both.

    Raises:
        DeclarationError: no network has an address of each.
    """
    found = [
        Way(_end(hosts, own), _end(hosts, other))
        for several in stations(hosts).values()
        for own, other in product(several, several)
        if (own.host, other.host) == (name, peer)
    ]
    if not found:
        got, want = f"got no network that {name} and {peer} share", "what is measured between them goes over one"
        raise DeclarationError(f"{name}: peer {peer}", got, want, "Declare their addresses under nics, or name another")
    return next((way for way in found if way.own.interface == hosts[name].fabric), found[0])


def _end(hosts: Mapping[str, Host], station: Station) -> End:
    *_, last = station.path
    interface = hosts[station.host].nics[last].name if isinstance(last, int) else str(last)
    return End(station.host, station.address, interface)


def item(name: str, way: Way, sent: Mapping[str, object], received: Mapping[str, object]) -> Item:
    """Return what *way* has shown, by what the sender and the receiver told.

    Bytes that went over another interface than the declared one make it short, however fast they were.
    """
    count, seconds = _number(received["bytes"]), _number(received["seconds"])
    short = [
        f"on {end.host} it went over {most}, not over {end.interface}"
        for end, told in ((way.own, sent), (way.peer, received))
        if (most := _most(told["interfaces"], end.interface, count)) != end.interface
    ]
    rate = Figure("TCP", count / seconds / 1e9, "GB/s")
    return judged(name, [rate], short, "" if short else way.text)


def _most(interfaces: object, wanted: str, count: float) -> str:
    """Return what *count* bytes went over: *wanted*, if it moved as many, else the interface that moved most."""
    assert isinstance(interfaces, Mapping)
    if interfaces.get(wanted, 0) >= count:
        return wanted
    return str(max(interfaces, key=lambda name: interfaces[name], default="no interface"))


def _number(value: object) -> float:
    assert isinstance(value, int | float)
    return float(value)
