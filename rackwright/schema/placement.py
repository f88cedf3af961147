"""The hosts that a run or a server stands on: named one by one, or all of a group."""

from collections.abc import Iterator, Mapping
from typing import Protocol

from rackwright.schema.host import Host
from rackwright.schema.problem import Problem, hint


class OnHosts(Protocol):
    """What stands on hosts."""

    @property
    def hosts(self) -> tuple[str, ...]: ...

    @property
    def group(self) -> str | None: ...


def members(on: OnHosts, hosts: Mapping[str, Host]) -> tuple[str, ...]:
    """Return its hosts of *hosts*: as named, or in the order of the fleet."""
    if on.group is None:
        return on.hosts
    return tuple(name for name, host in hosts.items() if host.group == on.group)


def problems(on: OnHosts, noun: str, once: str, fix: str) -> Iterator[Problem]:
    """Yield what is wrong by itself.

    Args:
        noun: What it is called: a run, a server.
        once: What is wanted where a host is named twice.
        fix: What is done about that.
    """
    if (on.group is None) == (not on.hosts):
        got = "got neither hosts nor group" if on.group is None else "got hosts and group"
        yield Problem(got, f"{noun} says one of the two", "Write hosts: [NAME, …], or group: NAME")
    for index, host in enumerate(on.hosts):
        if host in on.hosts[:index]:
            yield Problem(f"got {host} twice", once, fix, ("hosts", index))


def unknown(on: OnHosts, hosts: Mapping[str, Host]) -> Iterator[Problem]:
    """Yield each name that the fleet of *hosts* has not."""
    for index, member in enumerate(on.hosts):
        if member not in hosts:
            fix = hint(member, hosts, "Take one of these")
            yield Problem(f"got {member!r}", f"hosts of the fleet: {', '.join(hosts)}", fix, ("hosts", index))
    if on.group is not None and not members(on, hosts):
        groups = sorted({host.group for host in hosts.values() if host.group})
        fix = hint(on.group, groups, "Take one of these")
        yield Problem(f"got {on.group!r}", f"groups with hosts: {', '.join(groups) or 'none'}", fix, ("group",))
