"""The hosts of a run or a server: listed by name, or all hosts of a group."""

from collections.abc import Iterator, Mapping
from typing import Protocol

from rackwright.schema.host import Host
from rackwright.schema.problem import Problem, hint


class OnHosts(Protocol):
    """A run or server with a list of hosts or a group."""

    @property
    def hosts(self) -> tuple[str, ...]: ...

    @property
    def group(self) -> str | None: ...


def members(workload: OnHosts, hosts: Mapping[str, Host]) -> tuple[str, ...]:
    """Return the names of the hosts of *workload*, in its own order, or for a group in the order of the fleet.

    Retired hosts of the group are none of them.
    """
    if workload.group is None:
        return workload.hosts
    return tuple(name for name, host in hosts.items() if host.group == workload.group and not host.retired)


def problems(workload: OnHosts, noun: str, once: str, help: str) -> Iterator[Problem]:
    """Yield the problems of hosts and group by themselves.

    Args:
        noun: Noun for *workload* in messages, like "a run".
        once: Expectation in the error for a host that is listed twice.
        help: Help in that error.
    """
    if (workload.group is None) == (not workload.hosts):
        problem = "got neither hosts nor group" if workload.group is None else "got hosts and group"
        yield Problem(problem, f"{noun} has one of the two", "Write hosts: [NAME, …], or group: NAME")
    for index, host in enumerate(workload.hosts):
        if host in workload.hosts[:index]:
            yield Problem(f"got {host} twice", once, help, ("hosts", index))


def unknown_hosts(workload: OnHosts, hosts: Mapping[str, Host]) -> Iterator[Problem]:
    """Yield a problem for each host or group of *workload* that the fleet of *hosts* does not have."""
    for index, member in enumerate(workload.hosts):
        if member not in hosts:
            help = hint(member, hosts, "Take one of these", taken=workload.hosts)
            yield Problem(f"got {member!r}", f"hosts of the fleet: {', '.join(hosts)}", help, ("hosts", index))
    if workload.group is not None and not members(workload, hosts):
        groups = sorted({host.group for host in hosts.values() if host.group})
        help = hint(workload.group, groups, "Take one of these")
        yield Problem(f"got {workload.group!r}", f"groups with hosts: {', '.join(groups) or 'none'}", help, ("group",))
