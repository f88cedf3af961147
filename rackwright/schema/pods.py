"""The pods of runs and servers that a cluster of Kubernetes carries."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Protocol

from pydantic import Field, PositiveInt

from rackwright.schema.base import Schema
from rackwright.schema.cluster import Cluster, TeamName
from rackwright.schema.host import Name
from rackwright.schema.problem import Problem, hint
from rackwright.schema.units import Size, format_size

On = Literal["hosts", "kubernetes"]
"""The carrier of a run or server: units of its hosts, or pods of the cluster to which its hosts belong."""
MEMORY = Size("4GiB")


class Pods(Schema):
    """The pods of a run or server on Kubernetes, each on a host of its own."""

    team: TeamName
    """Team of the cluster in whose namespace the pods are."""
    count: PositiveInt | None = None
    """Number of pods; as many as hosts by default. With fewer, the other hosts are spares."""
    cpus: PositiveInt = 1
    """Number of processors that each pod asks for."""
    memory: Size = MEMORY
    """Memory that each pod asks for, and may not exceed."""
    gpus: Annotated[int, Field(ge=0)] = 0
    """Number of GPUs that each pod asks for."""


class Workload(Protocol):
    """A run or server that may be on Kubernetes."""

    @property
    def on(self) -> On: ...

    @property
    def pods(self) -> Pods | None: ...


def own_problems(workload: Workload, noun: str, refused: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield the problems of *workload* by itself.

    Args:
        noun: Noun for *workload* in messages, like "a run".
        refused: Values that pods do not support, by field; a false value is not declared.
    """
    if (workload.on == "kubernetes") != (workload.pods is not None):
        problem = "got pods without on: kubernetes" if workload.pods else "got on: kubernetes without pods"
        expected = f"{noun} on Kubernetes has both"
        yield Problem(problem, expected, "Write on: kubernetes, and pods: {team: NAME}", ("pods",))
    if workload.on == "kubernetes":
        for field, value in refused.items():
            if value:
                expected, help = f"{noun} on Kubernetes has no {field} yet", f"Remove {field}, or write on: hosts"
                yield Problem(f"got {field} with on: kubernetes", expected, help, (field,))


def cluster_of(members: tuple[str, ...], clusters: Mapping[Name, Cluster]) -> tuple[str, Cluster] | None:
    """Return the cluster whose nodes all *members* are, with its name; None if there is no such cluster."""
    return next(((name, each) for name, each in clusters.items() if {*members} <= {*each.nodes}), None)


def problems(workload: Workload, members: tuple[str, ...], clusters: Mapping[Name, Cluster]) -> Iterator[Problem]:
    """Yield the problems of *workload* with its hosts *members* in *clusters*; none if it is not on Kubernetes."""
    if workload.pods is None or not members:
        return
    count = workload.pods.count or len(members)
    if count > len(members):
        problem, expected = f"got {count} pods", f"at most one on each of {len(members)} hosts"
        yield Problem(problem, expected, "Lower count, or name more hosts", ("pods", "count"))
    found = cluster_of(members, clusters)
    if found is None:
        expected = f"nodes of one cluster: {'; '.join(', '.join(each.nodes) for each in clusters.values()) or 'none'}"
        yield Problem(f"got {', '.join(members)}", expected, "Name hosts below `nodes` of a cluster", ("hosts",))
        return
    name, cluster = found
    if cluster.api is not None:
        expected = "a cluster with its control plane on a host of the fleet, from which rackwright starts pods"
        help = "Write on: hosts, or start it by a program of yours through `rackwright cluster exec`"
        yield Problem(f"got {name}, a cluster with api", expected, help, ("on",))
        return
    team = cluster.teams.get(workload.pods.team)
    if team is None:
        help = hint(workload.pods.team, cluster.teams, "Declare the team")
        expected = f"teams of cluster {name}: {', '.join(cluster.teams) or 'none'}"
        yield Problem(f"got {workload.pods.team!r}", expected, help, ("pods", "team"))
        return
    more = team.borrows
    limits = {
        "cpus": team.cpus + more.cpus,
        "memory": team.memory + (more.memory or 0),
        "gpus": team.gpus + more.gpus,
        "count": team.pods,
    }
    wanted = {
        "cpus": count * workload.pods.cpus,
        "memory": count * workload.pods.memory,
        "gpus": count * workload.pods.gpus,
        "count": count,
    }
    for field, limit in limits.items():
        if wanted[field] > limit:
            shown = format_size if field == "memory" else str
            problem = f"got {count} pods that ask for {shown(wanted[field])} of {field} together"
            expected = f"at most {shown(limit)}, the limit of team {workload.pods.team}"
            yield Problem(problem, expected, "Lower it, or raise the limit of the team", ("pods", field))
