"""The share of the API that people and pods of teams have together, so that no team keeps others from it or fills etcd.

Admission bounds each object of a team (`cluster_store.OBJECT_BYTES`), its quota their number, and this share the rate
at which new versions come: etcd keeps each version until the API server compacts it.
"""

from collections.abc import Iterable, Iterator

from rackwright.kinds.cluster.quantity import Object

KINDS = ("PriorityLevelConfiguration", "FlowSchema")
NAME = "rackwright-teams"
NODES_NAME = "rackwright-nodes-events"
SHARES = 1
"""Shares of a level: with those of Kubernetes itself, 247 in all, 3 of an API server's 600 seats."""
SEATS = 3
"""Requests of teams that one API server works on at a time. Further ones wait, and each account has its own queue."""
_PRECEDENCE = 1000
"""Place among the schemas: after administrators and nodes of Kubernetes, before service accounts and all others."""
_NODES_PRECEDENCE = 400
"""Place of the events of nodes: before all other requests of nodes, which Kubernetes gives a level of their own."""
_VERSION = "flowcontrol.apiserver.k8s.io/v1"


def objects(teams: Iterable[tuple[str, Iterable[str]]]) -> Iterator[Object]:
    """Yield the level of *teams*, and the schema that leads their requests there.

    Args:
        teams: The name of each team, with the groups of its people.
    """
    yield _level(NAME)
    everything = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": True, "namespaces": ["*"]}
    rules = [
        {
            "subjects": [
                *({"kind": "Group", "group": {"name": group}} for group in dict.fromkeys(groups)),
                {"kind": "ServiceAccount", "serviceAccount": {"namespace": name, "name": "*"}},
            ],
            "resourceRules": [everything],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
        }
        for name, groups in teams
    ]
    schema = {
        "priorityLevelConfiguration": {"name": NAME},
        "matchingPrecedence": _PRECEDENCE,
        "distinguisherMethod": {"type": "ByUser"},
        "rules": rules,
    }
    yield {"apiVersion": _VERSION, "kind": KINDS[1], "metadata": {"name": NAME}, "spec": schema}


def node_objects() -> Iterator[Object]:
    """Yield the level of the events that nodes write, and the schema that leads them there."""
    yield _level(NODES_NAME)
    events = {
        "verbs": ["create", "patch", "update"],
        "apiGroups": ["", "events.k8s.io"],
        "resources": ["events"],
        "namespaces": ["*"],
    }
    schema = {
        "priorityLevelConfiguration": {"name": NODES_NAME},
        "matchingPrecedence": _NODES_PRECEDENCE,
        "distinguisherMethod": {"type": "ByUser"},
        "rules": [
            {"subjects": [{"kind": "Group", "group": {"name": "system:nodes"}}], "resourceRules": [events]},
        ],
    }
    yield {"apiVersion": _VERSION, "kind": KINDS[1], "metadata": {"name": NODES_NAME}, "spec": schema}


def _level(name: str) -> Object:
    queuing = {"queues": 64, "handSize": 6, "queueLengthLimit": 50}
    limited = {
        "nominalConcurrencyShares": SHARES,
        "lendablePercent": 0,
        "borrowingLimitPercent": 0,
        "limitResponse": {"type": "Queue", "queuing": queuing},
    }
    level = {"type": "Limited", "limited": limited}
    return {"apiVersion": _VERSION, "kind": KINDS[0], "metadata": {"name": name}, "spec": level}
