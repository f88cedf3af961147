"""Objects of the API beside their manifests: what the API adds by itself is no difference."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from rackwright.facts.probe.observe import ReadError, read

CONTENT = "rackwright.local/content"
"""Annotation with the digest of an object as it was set."""
NAME_LABEL = "kubernetes.io/metadata.name"
"""Label that Kubernetes gives each namespace."""
ANY = object()
"""Value of ADDED that stands for each value."""
_POD = r"(Deployment\.spec\.template\.spec)"
ADDED = (
    (rf"{_POD}\.dnsPolicy", "ClusterFirst"),
    (rf"{_POD}\.restartPolicy", "Always"),
    (rf"{_POD}\.schedulerName", "default-scheduler"),
    (rf"{_POD}\.terminationGracePeriodSeconds", 30),
    (rf"{_POD}\.serviceAccount", ANY),  # the old name of serviceAccountName
    (rf"{_POD}\.volumes\[\]\.(secret|configMap)\.defaultMode", 420),
    (rf"{_POD}\.containers\[\]\.terminationMessagePath", "/dev/termination-log"),
    (rf"{_POD}\.containers\[\]\.terminationMessagePolicy", "File"),
    (rf"{_POD}\.containers\[\]\.ports\[\]\.protocol", "TCP"),
    (rf"{_POD}\.containers\[\]\.env\[\]\.valueFrom\.fieldRef\.apiVersion", "v1"),
    (rf"{_POD}\.containers\[\]\.\w+Probe\.(successThreshold|timeoutSeconds)", 1),
    (rf"{_POD}\.containers\[\]\.\w+Probe\.failureThreshold", 3),
    (rf"{_POD}\.containers\[\]\.\w+Probe\.periodSeconds", 10),
    (rf"{_POD}\.containers\[\]\.\w+Probe\.httpGet\.scheme", "HTTP"),
    (r"Deployment\.spec\.template\.metadata\.creationTimestamp", None),
    (r"Deployment\.spec\.progressDeadlineSeconds", 600),
    (r"Deployment\.spec\.revisionHistoryLimit", 10),
    (
        r"Deployment\.spec\.strategy",
        {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
    ),
    (r"Deployment\.spec\.strategy\.type", "RollingUpdate"),
    (r"Deployment\.spec\.strategy\.rollingUpdate\.max(Surge|Unavailable)", "25%"),
    (r"Service\.spec\.clusterIPs?", ANY),
    (r"Service\.spec\.ipFamilies", ANY),
    (r"Service\.spec\.ipFamilyPolicy", "SingleStack"),
    (r"Service\.spec\.internalTrafficPolicy", "Cluster"),
    (r"Service\.spec\.sessionAffinity", "None"),
    (r"Service\.spec\.type", "ClusterIP"),
    (r"Service\.spec\.ports\[\]\.protocol", "TCP"),
    (r"Service\.spec\.ports\[\]\.targetPort", ANY),
    (r"Namespace\.spec", ANY),  # the finalizers of Kubernetes
    (r"\w+WebhookConfiguration\.webhooks\[\]\.clientConfig\.caBundle", ANY),  # of the controller's own authority
    (r"\w+WebhookConfiguration\.webhooks\[\]\.clientConfig\.service\.port", 443),
    (r"\w+WebhookConfiguration\.webhooks\[\]\.matchPolicy", "Equivalent"),
    (r"\w+WebhookConfiguration\.webhooks\[\]\.timeoutSeconds", 10),
    (r"\w+WebhookConfiguration\.webhooks\[\]\.reinvocationPolicy", "Never"),
    (r"\w+WebhookConfiguration\.webhooks\[\]\.rules\[\]\.scope", "*"),
    (r"CustomResourceDefinition\.spec\.conversion\.webhook\.clientConfig\.caBundle", ANY),
    (r"CustomResourceDefinition\.spec\.conversion\.webhook\.clientConfig\.service\.port", 443),
    (r"CustomResourceDefinition\.spec\.conversion", {"strategy": "None"}),
    (r"CustomResourceDefinition\.spec\.names\.(listKind|singular)", ANY),
    (r"APIService\.spec\.caBundle", ANY),
    (r"APIService\.spec\.service\.port", 443),
    (r"\w*RoleBinding\.subjects\[\]\.apiGroup", ""),
)
"""Patterns of values that the API or a controller adds to objects of controllers, after the kind, with the value."""


def read_manifests(path: str) -> dict[str, Any]:
    """Return the objects in the file *path* by their names.

    Raises:
        ReadError: the file does not exist, or has another form.
    """
    try:
        return {name_of(item): item for item in json.loads(read(path))["items"]}
    except (ValueError, KeyError, TypeError):
        raise ReadError(f"{path} has another form than the package writes") from None


def name_of(item: dict[str, Any]) -> str:
    return "/".join(filter(None, (item["metadata"].get("namespace"), item["kind"], item["metadata"]["name"])))


def digest(item: dict[str, Any]) -> str:
    """Return the digest of an object; `rackwright toolchain` writes the same for its manifest."""
    return hashlib.sha256(json.dumps(item, sort_keys=True).encode()).hexdigest()[:16]


def as_declared(item: dict[str, Any], manifest: dict[str, Any]) -> dict[str, Any]:
    """Return an object of the API without its state, and without the values that the API adds to *manifest*."""
    metadata = dict(manifest["metadata"])
    for key in ("labels", "annotations"):
        if key in metadata:
            found = item["metadata"].get(key, {})
            # another label of a namespace can give its pods rights
            names = [*metadata[key], *(found if (item["kind"], key) == ("Namespace", "labels") else ())]
            metadata[key] = {each: found[each] for each in names if each in found and each not in (CONTENT, NAME_LABEL)}
    if not metadata.get("annotations", True):
        del metadata["annotations"]  # there was none but the digest
    parts = [{key: each[key] for key in each if key not in ("metadata", "status")} for each in (item, manifest)]
    status = {"status": manifest["status"]} if "status" in manifest else {}
    return {**without_added(parts[0], parts[1], item["kind"]), **status, "metadata": metadata}


def without_added(found: Any, declared: Any, path: str) -> Any:
    """Return *found* without what the API adds to *declared*; values that a person added stay, and so do changes."""
    if isinstance(found, dict) and isinstance(declared, dict):
        kept = {
            key: without_added(found[key], value, f"{path}.{key}") for key, value in declared.items() if key in found
        }
        # the API leaves empty values out
        empty = {
            key: value for key, value in declared.items() if key not in found and value in (None, "", False, 0, [], {})
        }
        more = {key: value for key, value in found.items() if key not in declared}
        return {**kept, **empty, **{key: value for key, value in more.items() if not is_added(f"{path}.{key}", value)}}
    if isinstance(found, list) and isinstance(declared, list) and len(found) == len(declared):
        return [without_added(one, other, f"{path}[]") for one, other in zip(found, declared)]
    return declared if is_equal_quantity(found, declared) else found


def is_added(path: str, value: Any) -> bool:
    """Return whether the API or a controller itself adds *value* at *path*."""
    for pattern, expected in ADDED:
        if re.fullmatch(pattern, path):
            return expected is ANY or bool(value == expected)
    return value in ({}, [])


def is_equal_quantity(found: Any, declared: Any) -> bool:
    """Return whether two values are the same quantity, such as 1 and "1"."""
    return not isinstance(found, (dict, list, bool)) and not isinstance(declared, bool) and str(found) == str(declared)
