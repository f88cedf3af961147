"""The most that the teams of a cluster may put into its etcd, which is less than etcd takes.

Admission bounds the bytes of an object, quotas the number of objects, and the share of the API the number of versions
in a time, see `rackwright.kinds.cluster`.
"""

from collections.abc import Iterator, Mapping

from rackwright.schema.problem import Problem

OBJECT_BYTES = 32 << 10
"""Most bytes of an object that people of a team write, as JSON, with its labels and the names of its writers."""
COUNTS = {
    "configmaps": 100,
    "services": 200,
    "persistentvolumeclaims": 500,
    "deployments.apps": 200,
    "replicasets.apps": 2000,
    "statefulsets.apps": 200,
    "controllerrevisions.apps": 1000,
    "jobs.batch": 1000,
    "cronjobs.batch": 100,
    "horizontalpodautoscalers.autoscaling": 200,
    "poddisruptionbudgets.policy": 200,
}
"""Numbers of objects that a team may have."""
COUNTS_IN_QUEUE = {"jobsets.jobset.x-k8s.io": 1000}
ENDED_PODS = 1000
"""Number of pods that have ended, which Kubernetes keeps in the whole cluster."""
QUEUED = ("jobs.batch", "jobsets.jobset.x-k8s.io")
"""Resources of which Kueue keeps a workload each, with a copy of the templates."""
ENDPOINT_BYTES = 1 << 10
"""Most bytes of a pod in the lists of addresses that Kubernetes keeps of each service."""
ETCD_BYTES = 8 << 30
"""Limit of etcd that role kubernetes_control_plane sets."""
VERSIONS = 2000 * 60
"""Most versions of objects that etcd keeps: 2,000 writes in a second, until they are compacted after a minute.

An API server works on 3 requests of teams at a time (`fairness.SEATS`), and compacts every 30 seconds what is older
than 30 seconds. A fast drive takes less than 2,000 writes in a second with three requests at a time. Pages of compacted
versions are used again, so that the file stays as large as it is.
"""


def team_bytes(pods: int, queue: bool) -> int:
    """Return the bytes that all objects of a team have at the most.

    Args:
        pods: The number of its pods.
        queue: Whether the cluster has a queue.
    """
    counts = {**COUNTS, **(COUNTS_IN_QUEUE if queue else {})}
    workloads = sum(counts[each] for each in QUEUED) if queue else 0
    several = sum(counts.values()) + workloads + pods + ENDED_PODS
    return several * OBJECT_BYTES + counts["services"] * pods * ENDPOINT_BYTES


def problems(pods: Mapping[str, int], queue: bool) -> Iterator[Problem]:
    """Yield the problem of teams, each with the number of its pods, that could fill etcd together."""
    room, taken, reach = ETCD_BYTES - VERSIONS * OBJECT_BYTES, 0, 0
    for number, (name, several) in enumerate(pods.items(), 1):
        taken += team_bytes(several, queue)
        reach += several
        if taken > room:
            teams = "1 team" if number == 1 else f"{number} teams"
            got = f"got {teams} that could fill {_gib(taken)} of etcd together, with {reach} pods"
            expected = f"objects of all teams take {_gib(room)} of etcd's {_gib(ETCD_BYTES)} at most"
            help = "Write fewer `pods` for the teams, or put some teams into another cluster"
            yield Problem(got, expected, help, (name,), note="their earlier versions take the rest")
            return


def _gib(size: int) -> str:
    return f"{size / (1 << 30):.1f} GiB"
