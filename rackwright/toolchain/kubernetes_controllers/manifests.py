"""The manifests of controllers for a cluster of rackwright: what their projects ship, cut to what a rack needs."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import yaml

Object = dict[str, Any]
PART_OF = "rackwright.local/part-of"
"""Label of all objects of controllers; its value says which controllers, such as ``queue``."""
CONTENT = "rackwright.local/content"
"""Annotation with the digest of the object as it was declared."""
ACCOUNT = 65532
"""Number of the account of the programs, that of `nonroot` in the images of their projects."""
FRAMEWORKS = ("batch/job", "jobset.x-k8s.io/jobset")
"""Kinds of jobs that wait in queues. Each has webhooks, and the API refuses its objects while these do not answer."""
_WEBHOOKS = {
    "kueue": ("clusterqueue", "cohort", "resourceflavor", "workload", "job", "jobset"),
    "jobset": ("jobset", "pod"),
    "lws": ("leaderworkerset", "disaggregatedset", "pod"),
}
"""Subjects of the webhooks of each project. Those of JobSet and LeaderWorkerSet see pods of their own sets alone; those
of Kueue would see all pods and all groups."""
_UNUSED = ("-viewer-role", "-editor-role", "-user-role", "-admin-role")
"""Ends of the names of roles for people; teams have roles of their own."""
_VISIBILITY = "visibility"
"""The interface of Kueue for people, which is switched off."""
_UNUSED_PARTS = (_VISIBILITY, "metrics-reader")
_PLANE = "node-role.kubernetes.io/control-plane"
_WITHOUT_AUTHORITY = "metrics-server"
"""The project that asks kubelets, whose certificates no authority has signed."""
START, RECOVERY = "5m", "10m"
"""Time in which all pods of a job have to run, and time in which a lost pod has to run again elsewhere."""
_KUEUE_SETTINGS: Object = {
    "featureGates": {"VisibilityOnDemand": False},
    "waitForPodsReady": {
        "timeout": START,
        "recoveryTimeout": RECOVERY,
        # two jobs that start at the same time could each hold what the other one needs
        "blockAdmission": True,
        "requeuingStrategy": {"backoffBaseSeconds": 60, "backoffMaxSeconds": 600},
    },
    "integrations": {"frameworks": [*FRAMEWORKS]},
}


def adapt(project: str, image: str, text: str, part_of: str) -> Iterator[Object]:
    """Yield the objects in the manifests *text* of *project*, as a cluster of rackwright has them.

    Args:
        project: kueue, jobset, lws or metrics-server, which is also the name of the program in the image.
        image: Name of the image with the program.
        part_of: Name of the controllers to which the project belongs.
    """
    for item in yaml.safe_load_all(text):
        if not item or _is_unused(item):
            continue
        kind = item["kind"]
        if kind == "CustomResourceDefinition":
            item = _without_descriptions(item)
        elif kind.endswith("WebhookConfiguration"):
            item["webhooks"] = [each for each in item["webhooks"] if _is_used(project, each["name"])]
        elif kind == "Deployment":
            _place(item, project, image)
        elif kind == "ConfigMap" and project == "kueue":
            [(name, settings)] = item["data"].items()
            item["data"] = {name: yaml.safe_dump({**yaml.safe_load(settings), **_KUEUE_SETTINGS})}
        elif kind == "Namespace":
            labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "audit", "warn")}
            item["metadata"].setdefault("labels", {}).update(labels)
        metadata = item["metadata"]
        metadata["labels"] = {**metadata.get("labels", {}), PART_OF: part_of}
        metadata["annotations"] = {**metadata.get("annotations", {}), CONTENT: _digest(item)}
        yield item


def digests(objects: Iterable[Object]) -> Mapping[str, str]:
    """Return the digest of each object by its name, such as ``kueue-system/Deployment/kueue-controller-manager``.

    The secrets, which the controllers fill with their certificates, are not among them.
    """
    compared = (each for each in objects if each["kind"] != "Secret")
    return dict(sorted((_name(each), each["metadata"]["annotations"][CONTENT]) for each in compared))


def _name(item: Object) -> str:
    parts = (item["metadata"].get("namespace"), item["kind"], item["metadata"]["name"])
    return "/".join(filter(None, parts))


def _is_unused(item: Object) -> bool:
    name = item["metadata"]["name"]
    return name.endswith(_UNUSED) or any(part in name for part in _UNUSED_PARTS)


def _is_used(project: str, webhook: str) -> bool:
    """Return whether a webhook such as ``vjobset.kb.io`` is about objects that a rack has."""
    return webhook.partition(".")[0][1:] in _WEBHOOKS[project]


def _place(item: Object, project: str, image: str) -> None:
    """Place the controller *item* on control planes, with an image that is there."""
    item["spec"]["replicas"] = 1  # a second one on the same control plane would only take memory
    pod = item["spec"]["template"]["spec"]
    [container] = pod["containers"]
    container["image"], container["imagePullPolicy"] = image, "Never"
    container["command"] = [f"/{project}"]
    container["resources"] = {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "1Gi"}}
    # a drain refuses a pod with an emptyDir, which only the interface for people needs
    container["volumeMounts"] = [each for each in container["volumeMounts"] if each["name"] != _VISIBILITY]
    container["ports"] = [each for each in container["ports"] if each["name"] != _VISIBILITY]
    pod["volumes"] = [each for each in pod["volumes"] if each["name"] != _VISIBILITY]
    for volume in pod["volumes"]:
        if volume.get("emptyDir") == {}:  # a drain of a restart moves pods with data in memory alone
            volume["emptyDir"] = {"medium": "Memory"}
    if project == _WITHOUT_AUTHORITY:
        container["args"].append("--kubelet-insecure-tls")
    pod.setdefault("securityContext", {})["runAsUser"] = ACCOUNT
    pod["securityContext"].setdefault("seccompProfile", {"type": "RuntimeDefault"})
    pod["nodeSelector"] = {_PLANE: ""}
    pod["tolerations"] = [{"key": _PLANE, "operator": "Exists", "effect": "NoSchedule"}]
    pod["priorityClassName"] = "system-cluster-critical"


def _without_descriptions(item: Any) -> Any:
    """Return a schema without its texts for people, which are two thirds of it, and are sent with each look at it."""
    if isinstance(item, dict):
        return {
            key: _without_descriptions(value)
            for key, value in item.items()
            if not (key == "description" and isinstance(value, str))
        }
    return [_without_descriptions(each) for each in item] if isinstance(item, list) else item


def _digest(item: Object) -> str:
    return hashlib.sha256(json.dumps(item, sort_keys=True).encode()).hexdigest()[:16]
