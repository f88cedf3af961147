"""Mirrors for the guests of a twin: those of this computer, where its stack lends them."""

from dataclasses import dataclass
from urllib.parse import urlsplit

from rackwright.errors import SetupError
from rackwright.toolchain.apt import COMPONENTS, SUITES
from rackwright.toolchain.apt import mirrors as of_this_computer

PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Door:
    """Where a container finds a mirror that it cannot reach: its chassis listens there, and leads it on."""

    address: str
    """In the container: on its loopback interface."""
    port: int
    host: str
    """The mirror's name, which the container takes for *address*."""


def lines(os_name: str) -> tuple[str, ...]:
    """Return where a guest with *os_name* gets packages, as lines of sources.list(5).

    Raises:
        SetupError: This computer's apt names no mirror of that system.
    """
    found = tuple(of_this_computer(SUITES[os_name], COMPONENTS))
    if not found:
        raise SetupError(
            "rackwright:mirrors",
            "this computer's apt names no mirror of Debian",
            "a twin's hosts are lent what it has",
            "Remove the setting, or add a mirror to /etc/apt/sources.list.d",
        )
    return found


def doors(sources: tuple[str, ...]) -> tuple[Door, ...]:
    """Return a door for each mirror in lines of sources.list(5); mirrors of one name share an address."""
    places = [urlsplit(line.partition("] ")[2].split()[0]) for line in sources]
    known = dict.fromkeys((place.hostname or "", place.port or PORTS.get(place.scheme, 0)) for place in places)
    names = list(dict.fromkeys(host for host, _ in known))
    return tuple(Door(f"127.0.2.{names.index(host) + 1}", port, host) for host, port in known if host and port)
