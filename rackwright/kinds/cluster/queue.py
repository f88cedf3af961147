"""The queue of a cluster: Kueue and JobSet with their objects, and a queue with a quota for each team."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from rackwright.core.contract import Absent, Claim, Command, Difference, Step, Value
from rackwright.facts.kubernetes import ClusterFacts
from rackwright.kinds.cluster.quantity import GPU, Object, quantity
from rackwright.schema.cluster import Team

VERSION = "kueue.x-k8s.io/v1beta2"
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
"""Label of a job that waits in the queue of this name."""
QUEUE = "team"
"""Name of the queue in the namespace of each team, like that of its quota."""
KINDS = ("ResourceFlavor", "ClusterQueue", "LocalQueue")
"""Kinds of the objects of teams, each after what it needs."""
THING = "controllers:queue"
"""The thing whose properties are the objects of Kueue and JobSet."""
MANAGER = "rackwright"
_FLAVOR = "nodes"
_READY_SECONDS = 300
_REMEDY = (
    "look at `kubectl get pods --namespace kueue-system` and at those of jobset-system; without both no job can be made"
)
_SET = """\
set -eu
export KUBECONFIG=/etc/kubernetes/admin.conf
seconds=$1
shift
cd /usr/share/kubernetes-queue
kubectl apply --server-side --force-conflicts --field-manager=rackwright -f manifests.json
# a whole object takes the place of one that others have changed, so that nothing that was added stays
for name; do
  python3 - "$name" <<'END' | kubectl replace --field-manager=rackwright -f -
import json, sys
for item in json.load(open("manifests.json"))["items"]:
    place = item["metadata"]
    if "/".join(filter(None, (place.get("namespace"), item["kind"], place["name"]))) == sys.argv[1]:
        print(json.dumps(item))
END
done
for name in kueue jobset; do
  kubectl --namespace "$name-system" rollout status "deployment/$name-controller-manager" --timeout="${seconds}s"
done
# the controllers register their certificates when they have started
tries=0
until kubectl create --dry-run=server -f - >/dev/null 2>/run/rackwright-queue.log <<'END'
{"apiVersion": "kueue.x-k8s.io/v1beta2", "kind": "ResourceFlavor", "metadata": {"name": "rackwright-check"}, "spec": {}}
END
do
  tries=$((tries + 1))
  [ "$tries" -lt 60 ] || { cat /run/rackwright-queue.log; exit 1; }
  sleep 2
done
rm -f /run/rackwright-queue.log
"""
"""Script that sets all objects of both controllers, replaces the named ones, and waits until they answer."""


@cache
def digests() -> Mapping[str, str]:
    """Return the digest of each object of both controllers by its name; `rackwright toolchain` writes the same."""
    found: dict[str, str] = json.loads(Path(__file__).with_name("queue_objects.json").read_text())
    return found


def claims() -> Iterator[Claim]:
    """Yield the claim on the controllers: each of their objects is as it was set, and both are ready."""
    yield Claim(THING, {"ready": True, **digests()}, remedies={"ready": _REMEDY}, remedy_absent="")


def observe(cluster: ClusterFacts, name: str) -> Value:
    """Return whether the controllers are ready, or the digest of an object and who else has changed it."""
    found = cluster.queue
    if found is None:
        return Absent()
    if name == "ready":
        return found.ready
    item = found.object(name)
    if item is None:
        return Absent()
    others = [each for each in item.managers if each != MANAGER]
    return f"{item.content}, changed by {', '.join(others)}" if others else item.content


def steps(differences: Sequence[Difference]) -> Iterator[Step]:
    """Yield the step that sets the objects of the controllers, if one of them is known to differ."""
    known = [item for item in differences if item.thing == THING and not item.is_unknown]
    if not known:
        return
    changed = sorted(item.name for item in known if item.name in digests() and not isinstance(item.actual, Absent))
    text = f"set the objects of Kueue and JobSet ({len(known)} differ), and wait until both answer"
    yield Command(text, ("sh", "-c", _SET, "sh", str(_READY_SECONDS), *changed), timeout_seconds=3 * _READY_SECONDS)


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
