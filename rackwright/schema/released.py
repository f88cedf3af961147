"""Hosts that rackwright leaves as they are: retired ones, and on a twin those of its setting ``without``."""

from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Protocol

from rackwright.schema.problem import Keys, Problem

if TYPE_CHECKING:
    from rackwright.schema.cluster import Cluster
    from rackwright.schema.host import Host
    from rackwright.schema.monitoring import Monitoring
    from rackwright.schema.object_store import ObjectStore
    from rackwright.schema.run import Run
    from rackwright.schema.server import Server
    from rackwright.schema.tier_placement import PlacementRule

WITHOUT = "rackwright:without"
"""The setting of a stack with the hosts that its twin leaves out."""


def leave_out(hosts: "Mapping[str, Host]", names: Collection[str]) -> "dict[str, Host]":
    """Return *hosts* with those of *names* as retired ones."""
    return {name: host.model_copy(update={"retired": True}) if name in names else host for name, host in hosts.items()}


class Parts(Protocol):
    """The parts of a fleet that name hosts, but for its runs and servers."""

    clusters: "dict[str, Cluster]"
    object_stores: "dict[str, ObjectStore]"
    placement: "dict[str, PlacementRule]"
    monitoring: "Monitoring | None"


def problems(parts: Parts, hosts: "Mapping[str, Host]", without: Collection[str]) -> Iterator[Problem]:
    """Yield a problem for each of *parts* that needs a released host; paths are relative to the fleet.

    Args:
        without: The hosts that a twin leaves out.
    """
    places: list[tuple[Keys, str]] = []
    if parts.monitoring is not None:
        places.append((("monitoring", "host"), parts.monitoring.host))
    for name, cluster in parts.clusters.items():
        place: Keys = ("clusters", name)
        if cluster.control_plane:
            places.append(((*place, "control_plane"), cluster.control_plane))
        further = enumerate(cluster.further_control_planes)
        places += (((*place, "further_control_planes", index), host) for index, host in further)
        if cluster.api is None:
            places += (((*place, "nodes", host), host) for host in cluster.workers)
    for table, several in (("object_stores", parts.object_stores), ("placement", parts.placement)):
        for name, each in several.items():
            places += (((table, name, "hosts", index), host) for index, host in enumerate(each.hosts))
    yield from _problems(places, hosts, without)


def workload_problems(
    runs: "Mapping[str, Run]", servers: "Mapping[str, Server]", hosts: "Mapping[str, Host]", without: Collection[str]
) -> Iterator[Problem]:
    """Yield a problem for each run or server that names a released host; paths are relative to the fleet."""
    places: list[tuple[Keys, str]] = []
    for table, several in (("runs", runs), ("servers", servers)):
        for name, each in several.items():
            places += (((table, name, "hosts", index), host) for index, host in enumerate(each.hosts))
    places += ((("runs", name, "tracking", "host"), run.tracking.host) for name, run in runs.items() if run.tracking)
    yield from _problems(places, hosts, without)


def _problems(
    places: "list[tuple[Keys, str]]", hosts: "Mapping[str, Host]", without: Collection[str]
) -> Iterator[Problem]:
    for keys, name in places:
        if name not in hosts or not hosts[name].retired:
            continue
        if name in without:
            reason, help = "the twin leaves out", f"Remove it here, or from {WITHOUT}"
        else:
            reason, help = "is retired", f"Remove it here, or remove `retired: true` of {name}"
        yield Problem(f"got {name}, which {reason}", "a host that rackwright manages", help, keys)
