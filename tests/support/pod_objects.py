"""The objects of runs and servers in pods as an API has them, and how they differ from what is declared."""

from typing import Any

from rackwright.core import diff as comparison
from rackwright.core.contract import Difference
from rackwright.facts.facts import Facts
from rackwright.kinds.pods import PodsKind
from rackwright.kinds.pods.spec import WorkloadPart
from tests.support.pod_workloads import IDENTITY, REPOSITORY, made, spec_of


def pods_of(workload: WorkloadPart) -> list[Any]:
    return [each["spec"]["template"]["spec"] for each in made(workload).values() if "template" in each["spec"]]


def facts(workload: WorkloadPart, **status: dict[str, Any]) -> Facts:
    """Return the facts of a control plane whose API has all objects of *workload*, with *status* by kind."""
    found = {
        name: {
            "spec": each["spec"],
            "labels": each["metadata"]["labels"],
            "generation": 1,
            "managers": ["rackwright"],
            "status": {"observedGeneration": 1},
            "conditions": {},
            **status.get(each["kind"], {}),
        }
        for name, each in made(workload).items()
    }
    cluster = {"version": "v1.37.2", "nodes": {}, "objects": {}, "workloads": found}
    return Facts({"identity": IDENTITY, "kubernetes_cluster": cluster})


def differences_of(workload: WorkloadPart, found: Facts) -> tuple[Difference, ...]:
    spec = spec_of(workload)
    claims = PodsKind().claims(spec, REPOSITORY)
    return tuple(comparison.diff(claims, PodsKind().observe(claims, found)))


def differing(workload: WorkloadPart, found: Facts) -> list[str]:
    return [item.path for item in differences_of(workload, found)]


READY = {
    "Deployment": {
        "status": {"observedGeneration": 1, **dict.fromkeys(("replicas", "updatedReplicas", "availableReplicas"), 2)}
    }
}
