"""Objects of Kueue and JobSet as their API writes them. Source: a cluster of Kubernetes 1.37.2 with Kueue 0.19.1."""

from typing import Any

from rackwright.facts.probe import kubernetes as probe
from rackwright.kinds.cluster.controllers import QUEUE, digests

SERVICE = "kueue-system/Service/kueue-webhook-service"


def entry(name: str, **changes: Any) -> dict[str, Any]:
    """Return what Kueue has for a job, as its API writes it."""
    conditions = changes.pop("conditions", {"QuotaReserved": ("False", "Pending", "insufficient unused quota")})
    made_at = changes.pop("since", "2026-11-29T11:40:22Z")
    return {
        "metadata": {
            "namespace": "vision",
            "creationTimestamp": made_at,
            "ownerReferences": [{"kind": "JobSet", "name": name}],
        },
        "spec": {"queueName": "team", "priority": 1000, "active": True, **changes},
        "status": {
            "conditions": [
                {
                    "type": key,
                    "status": state,
                    "reason": reason,
                    "message": text,
                    "lastTransitionTime": "2026-11-29T12:00:00Z",
                }
                for key, (state, reason, text) in conditions.items()
            ]
        },
    }


def controllers(**changes: Any) -> list[dict[str, Any]]:
    """Return the objects of Kueue and JobSet as the API writes them, with *changes* of that of SERVICE."""
    found = []
    for name, digest in digests(QUEUE).items():
        *namespace, kind, short = name.split("/")
        fields = [{"manager": manager} for manager in ("rackwright", "kueue")]
        metadata: dict[str, Any] = {
            "name": short,
            "annotations": {probe.CONTENT: digest},
            "managedFields": [*fields, {"manager": "kubectl-edit", "subresource": "status"}],
            **({"namespace": namespace[0]} if namespace else {}),
        }
        status = {"availableReplicas": 1} if kind == "Deployment" else {}
        found.append({"kind": kind, "metadata": metadata, "status": status} | (changes if name == SERVICE else {}))
    return found
