"""The objects of Kubernetes that give teams their parts of a cluster: their content, their claims and their steps."""

import json
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import Any

from rackwright.core.contract import Absent, Claim, Command, Difference, Put, Scalar, SpecPart, Step, Value
from rackwright.core.declared import Declared
from rackwright.facts.kubernetes import ClusterFacts
from rackwright.kinds.cluster import admission, fairness, node_admission, queue
from rackwright.kinds.cluster.quantity import GPUS, STORAGE, Object, quantity
from rackwright.kinds.cluster.replace import REPLACE
from rackwright.schema.cluster import Team
from rackwright.schema.cluster_store import COUNTS, COUNTS_IN_QUEUE, ENDED_PODS

OPERATOR, VIEWER = "operator", "viewer"
"""Functions of people in the namespace of their team."""
PRIORITIES = {"serving": 100_000, "training": 1_000}
"""Priority classes; a server may take the place of a training, which goes on from its last checkpoint."""
FIELDS = "fields"
"""Property of an object: the paths of all its values, so that an undeclared value is a difference."""
_OBJECT = "object:"
_FILE = "/run/rackwright-objects"
_RUNS = {
    "": ("pods", "services", "configmaps", "persistentvolumeclaims"),
    "apps": ("deployments", "replicasets", "statefulsets"),
    "batch": ("jobs", "cronjobs"),
    "autoscaling": ("horizontalpodautoscalers",),
    "policy": ("poddisruptionbudgets",),
}
"""Resources of trainings and servers, by API group. Secrets are not among them, though a pod can mount them."""
_LOOKS = {"": ("pods/log", "events")}
"""Resources that no member of a team needs to change, by API group."""
_READ = ("get", "list", "watch")
_CHANGE = (*_READ, "create", "update", "patch", "delete")
_RBAC = "rbac.authorization.k8s.io"
_KEPT = ("Namespace", *queue.KINDS, *admission.KINDS, *fairness.KINDS)
"""Kinds of objects that are never deleted to make them again: they have the work of a team, or keep teams apart."""
_SET = f"""\
set -eu
{REPLACE}\
export KUBECONFIG=/etc/kubernetes/admin.conf
trap 'rm -f "$1.namespaces" "$1"' EXIT
if [ -s "$1.namespaces" ]; then
  kubectl apply --server-side --force-conflicts --field-manager=rackwright -f "$1.namespaces"
  replace "$1.namespaces"  # without undeclared labels
fi
[ -s "$1" ] || exit 0
# a whole object takes the place of the other one, so that nothing that was added stays; some fields cannot be changed
replace "$1" || {{ kubectl delete --ignore-not-found -f "$1"; kubectl create -f "$1"; }}
"""
"""Script that sets the objects in two files, those of _KEPT and the others."""
_UNDECLARED = (
    "find out who made the object, and what it allows; then remove it with `kubectl delete`, or declare what it is for"
)


class TeamPart(SpecPart):
    """A team with its name, which is that of its namespace."""

    name: str
    """The name of the team and of its namespace."""
    declared: Declared[Team]
    """Quota of the team's pods together, and the rights of its people."""
    cohort: str | None = None
    """The cluster whose teams borrow from each other; None in a cluster without a queue."""


def objects(teams: Iterable[TeamPart], planes: Sequence[str] = ()) -> dict[str, Object]:
    """Return the objects of *teams* by name, such as ``vision/Role/viewer``; each after what it is in.

    Args:
        planes: The nodes of the control plane, whose cluster has policies for its nodes too; none in a provided one.
    """
    several = [*teams]
    found = [
        *(node_admission.objects(planes) if planes else ()),
        *(_priorities() if several else ()),
        *(admission.objects([each.name for each in several], PRIORITIES["training"]) if several else ()),
        *(fairness.objects((each.name, _groups(each.declared)) for each in several) if several else ()),
        *(each for team in several for each in _of_team(team)),
        *queue.objects((each.name, each.declared, each.cohort) for each in several),
    ]
    return {name_of(each): each for each in found}


def name_of(item: Object) -> str:
    """Return the name of an object in claims: namespace, kind and name."""
    parts = (item["metadata"].get("namespace"), item["kind"], item["metadata"]["name"])
    return "/".join(filter(None, parts))


def content(item: Object) -> Object:
    """Return what an object says, without its name; of a namespace its labels alone, since Kubernetes sets the rest."""
    if item["kind"] == "Namespace":
        return {"labels": item["metadata"]["labels"]}
    return {key: value for key, value in item.items() if key not in ("apiVersion", "kind", "metadata")}


def claims(teams: Sequence[TeamPart], planes: Sequence[str] = ()) -> Iterator[Claim]:
    """Yield a claim on each object of *teams* and *planes*, and one that no other object is in the namespaces."""
    wanted = objects(teams, planes)
    for name, item in wanted.items():
        values = dict(leaves(content(item)))
        yield Claim(f"{_OBJECT}{name}", {FIELDS: tuple(sorted(values)), **values})
    for team in teams:
        yield Claim(f"namespace:{team.name}", {"undeclared": ()}, remedy=_UNDECLARED)


def names_in(claims: Iterable[Claim]) -> frozenset[str]:
    """Return the names of the objects that *claims* are about."""
    return frozenset(claim.thing.removeprefix(_OBJECT) for claim in claims if claim.thing.startswith(_OBJECT))


def observe(cluster: ClusterFacts, declared: Container[str], sort: str, key: str, name: str) -> Value:
    """Return a property of an object, or the names of the objects in a namespace that are not *declared*.

    Raises:
        UnknownFact: The API did not list the objects of this kind, or those of one kind in the namespace.
    """
    if sort == "namespace":
        found = tuple(sorted(each for each in cluster.objects if each.startswith(f"{key}/") and each not in declared))
        if not found:
            cluster.require_all_objects()
        return found
    item = cluster.object(key)
    if item is None:
        return Absent()
    values = dict(leaves(item))
    return tuple(sorted(values)) if name == FIELDS else values.get(name, Absent())


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Scalar]]:
    """Yield each value of an object with its path; a list is one value, and so is each empty mapping."""
    if isinstance(value, Mapping) and value:
        for key, each in value.items():
            yield from leaves(each, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple):
        yield path, tuple(json.dumps(each, sort_keys=True) for each in value)
    else:
        yield path, json.dumps(value) if isinstance(value, Mapping) or value is None else value


def steps(teams: Sequence[TeamPart], planes: Sequence[str], differences: Sequence[Difference]) -> Iterator[Step]:
    """Yield the steps that set the objects with known *differences*."""
    changed = {item.thing.removeprefix(_OBJECT) for item in differences if not item.is_unknown}
    several = {name: item for name, item in objects(teams, planes).items() if name in changed}
    if not several:
        return
    for path, kept in ((f"{_FILE}.namespaces", True), (_FILE, False)):
        chosen = [each for each in several.values() if (each["kind"] in _KEPT) == kept]
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": chosen}) if chosen else ""
        yield Put(f"write {path}", path, text, 0o600)
    yield Command(f"set {', '.join(several)}", ("sh", "-c", _SET, "sh", _FILE))


def _priorities() -> Iterator[Object]:
    for name, value in PRIORITIES.items():
        yield {
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": {"name": name},
            "value": value,
            "preemptionPolicy": "PreemptLowerPriority" if name == "serving" else "Never",
            "description": f"Pods of the kind {name}.",
        }


def _of_team(part: TeamPart) -> Iterator[Object]:
    name, team = part.name, part.declared
    yield {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": name,
            # Source: Kubernetes, "Pod Security Standards"
            "labels": {
                **{f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "audit", "warn")},
                admission.TEAM_LABEL: name,
            },
        },
    }
    yield _in(name, "v1", "ResourceQuota", "team", spec={"hard": _quota(part)})
    # a pod that names no resources has these, since a quota refuses one without any
    requests = {"cpu": "100m", "memory": "256Mi", STORAGE: "100Mi"}
    limits = {"cpu": "1", "memory": "1Gi", STORAGE: "10Gi"}
    defaults = {"type": "Container", "default": limits, "defaultRequest": requests}
    yield _in(name, "v1", "LimitRange", "team", spec={"limits": [defaults]})
    yield from _network_policies(name)
    for function, verbs, groups in ((OPERATOR, _CHANGE, team.operators), (VIEWER, _READ, team.viewers)):
        yield from _function(part, function, verbs, groups)


def _quota(part: TeamPart) -> dict[str, str]:
    # Kubernetes takes a quota of an extended resource for requests alone, which are its limits too
    team = part.declared
    more, counts = team.borrows, {**COUNTS, **(COUNTS_IN_QUEUE if part.cohort else {})}
    memory, cpus = quantity(team.memory + (more.memory or 0)), quantity(team.cpus + more.cpus)
    return {
        **{f"requests.{gpu}": quantity(team.gpus + more.gpus) for gpu in GPUS},
        "pods": quantity(team.pods),
        "requests.cpu": cpus,
        "limits.cpu": cpus,
        "requests.memory": memory,
        "limits.memory": memory,
        **{f"{kind}.{STORAGE}": quantity(team.storage) for kind in ("requests", "limits")},
        # ports of all nodes, which other teams would find taken
        "services.nodeports": "0",
        "services.loadbalancers": "0",
        # pods that have ended are none of `pods`
        "count/pods": quantity(team.pods + ENDED_PODS),
        **{f"count/{resource}": quantity(number) for resource, number in counts.items()},
    }


def _groups(team: Team) -> tuple[str, ...]:
    return (*team.operators, *team.viewers)


def _network_policies(name: str) -> Iterator[Object]:
    """Yield policies by which pods reach the pods of their own team and the DNS of the cluster, and nothing else."""
    both = ["Ingress", "Egress"]
    everybody: Object = {"podSelector": {}}
    yield _policy(name, "deny", both)
    yield _policy(name, "own-team", both, ingress=[{"from": [everybody]}], egress=[{"to": [everybody]}])
    dns = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
        "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
    }
    ports = [{"protocol": protocol, "port": 53} for protocol in ("UDP", "TCP")]
    yield _policy(name, "dns", ["Egress"], egress=[{"to": [dns], "ports": ports}])


def _policy(namespace: str, name: str, types: list[str], **rules: Any) -> Object:
    spec = {"podSelector": {}, "policyTypes": types, **rules}
    return _in(namespace, "networking.k8s.io/v1", "NetworkPolicy", name, spec=spec)


def _function(part: TeamPart, function: str, verbs: tuple[str, ...], groups: tuple[str, ...]) -> Iterator[Object]:
    name = part.name
    rules = [
        {"apiGroups": [group], "resources": list(resources), "verbs": list(allowed)}
        for several, allowed in ((_RUNS, verbs), (_LOOKS, _READ))
        for group, resources in several.items()
    ]
    if part.cohort:
        rules += queue.rules(verbs, _READ)
    yield _in(name, f"{_RBAC}/v1", "Role", function, rules=rules)
    if groups:
        subjects = [{"apiGroup": _RBAC, "kind": "Group", "name": group} for group in groups]
        role = {"apiGroup": _RBAC, "kind": "Role", "name": function}
        yield _in(name, f"{_RBAC}/v1", "RoleBinding", function, roleRef=role, subjects=subjects)


def _in(namespace: str, version: str, kind: str, name: str, **fields: Any) -> Object:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": namespace}, **fields}
