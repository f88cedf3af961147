"""The objects of Kubernetes that give teams their parts of a cluster, as plain data."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]
GPU = "nvidia.com/gpu"
"""Resource that a device plugin counts."""
OPERATOR, VIEWER = "operator", "viewer"
"""Functions of people in the namespace of their team."""
PRIORITIES = {"serving": 100_000, "training": 1_000}
"""Priority classes; a server may take the place of a training, which goes on from its last checkpoint."""
_RUNS = {
    "": ("pods", "pods/log", "services", "configmaps", "persistentvolumeclaims", "events"),
    "apps": ("deployments", "replicasets", "statefulsets"),
    "batch": ("jobs", "cronjobs"),
    "autoscaling": ("horizontalpodautoscalers",),
    "policy": ("poddisruptionbudgets",),
}
"""Resources of trainings and servers, by API group. Secrets are not among them."""
_READ = ("get", "list", "watch")
_CHANGE = (*_READ, "create", "update", "patch", "delete")


@dataclass(frozen=True)
class Team:
    """The part of a cluster that a team has."""

    gpus: int
    """Number of GPUs that its pods may ask for together."""
    cpus: int
    """Number of processors that its pods may ask for together."""
    memory: str
    """Memory that its pods may ask for together: `512Gi`."""
    pods: int = 100
    """Number of its pods."""
    operators: tuple[str, ...] = ()
    """Groups of people who start and stop its trainings and servers, as their certificates or tokens name them."""
    viewers: tuple[str, ...] = ()
    """Groups of people who look at them."""


def objects(teams: Mapping[str, Team]) -> list[Object]:
    """Return the objects for *teams*, by the names of their namespaces; namespaces come before what is in them."""
    return [*_priorities(), *(each for name, team in teams.items() for each in _of_team(name, team))]


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


def _of_team(name: str, team: Team) -> Iterator[Object]:
    yield {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": name,
            # Source: Kubernetes, "Pod Security Standards"
            "labels": {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "audit", "warn")},
        },
    }
    yield _in(name, "v1", "ResourceQuota", "team", spec={"hard": _quota(team)})
    # a pod that names no resources has these, since a quota refuses one without any
    limits = {
        "type": "Container",
        "default": {"cpu": "1", "memory": "1Gi"},
        "defaultRequest": {"cpu": "100m", "memory": "256Mi"},
    }
    yield _in(name, "v1", "LimitRange", "team", spec={"limits": [limits]})
    yield from _network_policies(name)
    for function, verbs, groups in ((OPERATOR, _CHANGE, team.operators), (VIEWER, _READ, team.viewers)):
        yield from _function(name, function, verbs, groups)


def _quota(team: Team) -> dict[str, str]:
    # Kubernetes takes a quota of an extended resource for requests alone, which are its limits too
    hard = {f"requests.{GPU}": team.gpus, "pods": team.pods}
    for kind in ("requests", "limits"):
        hard |= {f"{kind}.cpu": team.cpus}
    return {
        **{key: str(value) for key, value in hard.items()},
        "requests.memory": team.memory,
        "limits.memory": team.memory,
    }


def _network_policies(name: str) -> Iterator[Object]:
    """Yield policies by which pods reach the pods of their own team and the DNS of the cluster, and nothing else."""
    version = "networking.k8s.io/v1"
    everybody: Object = {"podSelector": {}}
    yield _in(name, version, "NetworkPolicy", "deny", spec={**everybody, "policyTypes": ["Ingress", "Egress"]})
    own = {"ingress": [{"from": [everybody]}], "egress": [{"to": [everybody]}]}
    yield _in(name, version, "NetworkPolicy", "own-team", spec={**everybody, **own})
    dns = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
        "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
    }
    ports = [{"protocol": protocol, "port": 53} for protocol in ("UDP", "TCP")]
    spec = {**everybody, "policyTypes": ["Egress"], "egress": [{"to": [dns], "ports": ports}]}
    yield _in(name, version, "NetworkPolicy", "dns", spec=spec)


def _function(name: str, function: str, verbs: tuple[str, ...], groups: tuple[str, ...]) -> Iterator[Object]:
    version = "rbac.authorization.k8s.io/v1"
    rules = [
        {"apiGroups": [group], "resources": list(resources), "verbs": list(verbs)} for group, resources in _RUNS.items()
    ]
    yield _in(name, version, "Role", function, rules=rules)
    if groups:
        subjects = [{"apiGroup": version.partition("/")[0], "kind": "Group", "name": group} for group in groups]
        role = {"apiGroup": version.partition("/")[0], "kind": "Role", "name": function}
        yield _in(name, version, "RoleBinding", function, roleRef=role, subjects=subjects)


def _in(namespace: str, version: str, kind: str, name: str, **content: Any) -> Object:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": namespace}, **content}
