"""Objects of Kueue and JobSet as their API writes them. Source: a cluster of Kubernetes 1.37.2 with Kueue 0.19.1."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from rackwright.facts.probe import declared_objects
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


@contextmanager
def manifests() -> Iterator[None]:
    """Give the probe the manifests of the objects of `controllers`, whose digests are those of the package."""
    declared = {declared_objects.name_of(item): declared_objects.as_declared(item, item) for item in controllers()}
    hashes, declared_hashes = (
        declared_objects.digest,
        {name: declared_objects.digest(item) for name, item in declared.items()},
    )

    def digest(item: dict[str, Any]) -> str:
        name, found = declared_objects.name_of(item), hashes(item)
        return digests(QUEUE)[name] if found == declared_hashes[name] else found

    with patch.object(probe, "read_manifests", lambda path: declared), patch.object(probe, "digest", digest):
        yield


def controllers(**changes: Any) -> list[dict[str, Any]]:
    """Return the objects of Kueue and JobSet as the API writes them, with *changes* of that of SERVICE."""
    found = []
    for name, digest in digests(QUEUE).items():
        *namespace, kind, short = name.split("/")
        fields = [{"manager": manager} for manager in ("rackwright", "kueue")]
        metadata: dict[str, Any] = {
            "name": short,
            "labels": {probe.PART_OF: QUEUE.name},
            "annotations": {declared_objects.CONTENT: digest},
            "managedFields": [*fields, {"manager": "kubectl-edit", "subresource": "status"}],
            **({"namespace": namespace[0]} if namespace else {}),
        }
        status = {"availableReplicas": 1} if kind == "Deployment" else {}
        found.append({"kind": kind, "metadata": metadata, "status": status} | (changes if name == SERVICE else {}))
    return found
