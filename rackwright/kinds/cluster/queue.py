"""The queues of a cluster with Kueue: one with a quota for each team."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rackwright.kinds.cluster.quantity import GPU, STORAGE, Object, quantity
from rackwright.schema.cluster import Team

VERSION = "kueue.x-k8s.io/v1beta2"
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
"""Label of a job that waits in the queue of this name."""
QUEUE = "team"
"""Name of the queue in the namespace of each team, like that of its quota."""
KINDS = ("ResourceFlavor", "ClusterQueue", "LocalQueue")
"""Kinds of the objects of teams, each after what it needs."""
_FLAVOR = "nodes"


def objects(teams: Iterable[tuple[str, Team, str | None]]) -> Iterator[Object]:
    """Yield the queues of *teams*: their names, what is declared of each, and the name of its cluster.

    A team without a cluster of that name has no queue.
    """
    queued = [(name, team, cohort) for name, team, cohort in teams if cohort is not None]
    if queued:
        yield {"apiVersion": VERSION, "kind": "ResourceFlavor", "metadata": {"name": _FLAVOR}, "spec": {}}
    for name, team, cohort in queued:
        yield {
            "apiVersion": VERSION,
            "kind": "ClusterQueue",
            "metadata": {"name": name},
            "spec": _cluster_queue(name, team, cohort),
        }
        yield {
            "apiVersion": VERSION,
            "kind": "LocalQueue",
            "metadata": {"name": QUEUE, "namespace": name},
            "spec": {"clusterQueue": name, "stopPolicy": "None"},
        }


def _cluster_queue(name: str, team: Team, cohort: str) -> Object:
    """Return a queue with all values that the API would add, so that the whole object can be compared."""
    more = team.borrows
    quotas = {
        "cpu": (team.cpus, more.cpus),
        "memory": (team.memory, more.memory or 0),
        GPU: (team.gpus, more.gpus),
        STORAGE: (team.storage, 0),
        "pods": (team.pods, 0),
    }
    resources = [
        {"name": resource, "nominalQuota": quantity(own), "borrowingLimit": quantity(borrowed)}
        for resource, (own, borrowed) in quotas.items()
    ]
    return {
        "cohortName": cohort,
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}},
        "resourceGroups": [{"coveredResources": [*quotas], "flavors": [{"name": _FLAVOR, "resources": resources}]}],
        "queueingStrategy": "BestEffortFIFO",
        "stopPolicy": "None",
        "flavorFungibility": {"whenCanBorrow": "MayStopSearch", "whenCanPreempt": "TryNextFlavor"},
        # a team gets back what it has lent: a borrowing run ends, and waits with its last checkpoint
        "preemption": {
            "reclaimWithinCohort": "Any",
            "borrowWithinCohort": {"policy": "Never"},
            "withinClusterQueue": "Never",
        },
    }


def rules(change: Sequence[str], read: Sequence[str]) -> list[dict[str, Any]]:
    """Return the rights of a function in a team: on job sets those of its verbs, and on the queue to look at it."""
    return [
        {"apiGroups": ["jobset.x-k8s.io"], "resources": ["jobsets"], "verbs": [*change]},
        {"apiGroups": ["kueue.x-k8s.io"], "resources": ["localqueues", "workloads"], "verbs": [*read]},
    ]
