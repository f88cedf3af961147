"""The pods of runs and servers that a cluster of Kubernetes carries."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Protocol

from pydantic import Field

from rackwright.schema.base import Amount, Count, Schema
from rackwright.schema.cluster import Cluster, TeamName
from rackwright.schema.host import Name
from rackwright.schema.problem import Problem, hint
from rackwright.schema.units import Size, format_size

On = Literal["hosts", "kubernetes"]
"""The carrier of a run or server: units of its hosts, or pods of the cluster to which its hosts belong."""
MEMORY = Size("4GiB")


class Autoscale(Schema):
    """The limits within which the cluster changes the number of pods of a server."""

    max: Count
    """Largest number of pods; `count` is the smallest one."""
    cpu_percent: Annotated[int, Field(ge=1, le=100)] = 70
    """Share of their `cpus` that pods use on average: with more, the cluster adds pods, and with less it ends some."""


class Pods(Schema):
    """The pods of a run or server on Kubernetes, each on a host of its own."""

    team: TeamName
    """Team of the cluster in whose namespace the pods are."""
    count: Count | None = None
    """Number of pods; as many as hosts by default. With fewer, the other hosts are spares."""
    cpus: Count = 1
    """Number of processors that each pod asks for."""
    memory: Size = MEMORY
    """Memory that each pod asks for, and may not exceed."""
    gpus: Amount = 0
    """Number of GPUs that each pod asks for."""
    autoscale: Autoscale | None = None
    """Limits of a server whose number of pods follows its use of processors; only with `metrics` of the cluster."""

    def smallest(self, hosts: int) -> int:
        """Return the number of pods on that many *hosts*; the cluster may add some to it."""
        return self.count or hosts

    def largest(self, hosts: int) -> int:
        """Return the largest number of pods on that many *hosts*."""
        return max(self.smallest(hosts), self.autoscale.max if self.autoscale else 0)


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
    count = workload.pods.largest(len(members))
    if workload.pods.autoscale:
        yield from _autoscale_problems(workload.pods, workload.pods.autoscale, members, clusters)
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


def _autoscale_problems(
    pods: Pods, autoscale: Autoscale, members: tuple[str, ...], clusters: Mapping[Name, Cluster]
) -> Iterator[Problem]:
    place = ("pods", "autoscale")
    if pods.count is None or pods.count >= autoscale.max:
        problem, expected = f"got max {autoscale.max}, and {pods.count or 'no'} count", "count is below max"
        yield Problem(problem, expected, "Write count, the smallest number of pods", place)
    found = cluster_of(members, clusters)
    if found and not found[1].metrics:
        expected = "a cluster with metrics: true, whose Metrics Server measures what pods use"
        yield Problem("got autoscale", expected, f"Add it to cluster {found[0]}", place)
