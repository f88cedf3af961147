"""The addresses of a stack's object stores: those of the fleet, or stand-ins for a rehearsal."""

from collections.abc import Iterator, Mapping
from typing import Any

from rackwright.errors import DeclarationError
from rackwright.fleet.source import Source
from rackwright.schema.fleet import Fleet
from rackwright.schema.formats import parse_url
from rackwright.schema.object_store import ROLE, is_loopback
from rackwright.schema.problem import Problem, hint

SETTING = "rackwright:object_stores"
"""Key of a stack's settings with the addresses of stand-ins by name of an object store."""


def load(settings: Source, fleet: Fleet, virtual: bool) -> Mapping[str, str]:
    """Return the addresses of the object stores of *fleet*, by name.

    Args:
        settings: The stack's settings. A virtual rack has only the stand-ins that they name, and the stores on its own
            hosts.

    Raises:
        DeclarationError: the settings name stand-ins that the stack cannot have.
    """
    declared = settings.data["config"].get(SETTING)
    stores = fleet.object_stores
    own = {name: store.url for name, store in stores.items() if not virtual or host_of(fleet, name)}
    if declared is None:
        return own
    if wrong := [*_problems(declared, fleet, virtual)]:
        raise DeclarationError(*(settings.error(problem, ("config", SETTING, *problem.path)) for problem in wrong))
    return own | dict(declared)


def host_of(fleet: Fleet, store: str) -> str | None:
    """Return the host of *fleet* that has the address of *store*; None if no role of its hosts has this address."""
    declared = fleet.object_stores[store]
    address = parse_url(declared.url).hostname
    for host in declared.hosts:
        if host in fleet.hosts and fleet.hosts[host].roles.get(ROLE, {}).get("address") == address:
            return host
    return None


def hosts(fleet: Fleet, urls: Mapping[str, str]) -> Mapping[str, str]:
    """Return the host of each store in *urls* that is no stand-in, by the name of the store."""
    own = {name: host_of(fleet, name) for name, url in urls.items() if url == fleet.object_stores[name].url}
    return {name: host for name, host in own.items() if host is not None}


def notices(fleet: Fleet, urls: Mapping[str, str]) -> Iterator[str]:
    """Yield a notice for each object store without an address in *urls*."""
    for name in fleet.object_stores:
        if name not in urls:
            yield f"the buckets of {name} are left out: no host of the twin has the store, and {SETTING} no stand-in"


def _problems(declared: Any, fleet: Fleet, virtual: bool) -> Iterator[Problem]:
    if not virtual:
        expected = "only a virtual rack has stand-ins; the fleet has the addresses of a real one"
        yield Problem("got stand-ins for object stores", expected, "Remove it")
        return
    if not isinstance(declared, dict):
        yield Problem(f"got {declared!r}", "addresses by name of an object store", "Write NAME: URL below it")
        return
    for name, url in declared.items():
        if name not in fleet.object_stores:
            expected = f"an object store of the fleet: {', '.join(fleet.object_stores) or 'none'}"
            yield Problem(f"got {name}", expected, hint(str(name), fleet.object_stores, "Remove it"), (name,))
        elif not isinstance(url, str) or not is_loopback(url):
            expected = "an address of this computer: a rehearsal changes no real store"
            yield Problem(f"got {url!r}", expected, "Write it like http://127.0.0.1:8333", (name,))
