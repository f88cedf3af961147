"""The facts of a cluster with a run and a server in its pods, made by the probe from what their plans make.

No cluster was recorded. The probe reads files in a directory, and answers of an API that are made of the declared
objects with the defaults that Kubernetes adds. Source: Kubernetes, API reference of version 1.37, "default".
"""

import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from unittest.mock import patch

from rackwright.core.repository import Repository
from rackwright.facts.probe import containers, kubernetes, runs, servers, system
from rackwright.kinds.cluster.quantity import Object
from rackwright.kinds.pods import PodFilesSpec, PodsSpec, image, mounts
from rackwright.kinds.pods.objects import objects
from rackwright.kinds.pods.release import files
from rackwright.kinds.shared import ownership
from tests.support import queue_objects
from tests.support.raw_facts import Raw

VERSION = "v1.37.2"
ADDRESS = "10.96.17.4"
_CONTAINER = {"terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"}
_POD = {"dnsPolicy": "ClusterFirst", "schedulerName": "default-scheduler"}
_PROBE = {"successThreshold": 1, "timeoutSeconds": 1}
_SERVICE = {
    "internalTrafficPolicy": "Cluster",
    "ipFamilies": ["IPv4"],
    "ipFamilyPolicy": "SingleStack",
    "sessionAffinity": "None",
    "type": "ClusterIP",
}


def of_host(specs: Iterable[PodFilesSpec], repository: Repository, salt: bytes) -> Raw:
    """Return the facts of a host with the files of *specs*."""
    specs = tuple(specs)
    digest, _ = image.archive()
    with tempfile.TemporaryDirectory() as root:
        for spec in specs:
            _write_files(Path(root), spec, repository)
        (Path(root) / "run/containerd").mkdir(parents=True)
        (Path(root) / "run/containerd/containerd.sock").touch()
        tables = {
            "namespaces": "NAME LABELS\nk8s.io\n",
            "images": f"REF TYPE DIGEST SIZE\n{image.name()} manifest {digest} 10 KiB\n",
        }
        with patch.object(containers, "run_tool", lambda *argv: tables["images" if "images" in argv else argv[1]]):
            images = containers.images(root)
        found, directories = system.tree(root, salt)
        for entry in (*found.values(), *directories.values()):
            entry["owner"] = "root:root"  # an unprivileged account may run the tests
        for spec in specs:
            if keys := directories.get(spec.workload.keys):
                keys["owner"] = f"root:{image.ACCOUNT}"
        return {
            "identity": specs[0].identity,
            "covers": {"files": list(system.COVERED), "texts": [], "sysctls_left_out": []},
            "mounts": [
                {"target": "/", "root": "/", "device": "sda1", "type": "ext4", "options": ["relatime", "rw"]},
                {"target": "/srv/warm", "root": "/", "device": "sdb1", "type": "xfs", "options": ["noatime", "rw"]},
                *(_mount(each) for spec in specs for each in mounts.mounts(spec.workload)),
            ],
            "files": found,
            "directories": directories,
            "unit_overrides": {},
            "texts": {},
            "units": {
                each.unit: {"enabled": "enabled", "active": "active"}
                for spec in specs
                for each in mounts.mounts(spec.workload)
            },
            "users": {},
            "owners": system.owners(root),
            "images": images,
            "runs": runs.runs(root),
            "servers": _servers(root),
        }


def of_control_plane(specs: Iterable[PodsSpec], nodes: Iterable[str], repository: Repository) -> Raw:
    """Return the facts of a control plane whose API has the objects of *specs*, all of them running.

    The cluster has a queue and groups.
    """
    specs = tuple(specs)
    made = [_stored(item) for spec in specs for item in objects(spec, repository).values()]
    answers: dict[str, Any] = {
        "version": {"serverVersion": {"gitVersion": VERSION}},
        "nodes": {"items": [_node(name) for name in nodes]},
        ",".join(kubernetes.CONTROLLER_PLACES): {"items": queue_objects.controllers()},
    }
    lists = {"Workload": [queue_objects.entry("another")]}
    for item in made:
        lists.setdefault(item["kind"], []).append(item)
    with tempfile.TemporaryDirectory() as root:
        for path in (kubernetes.ADMINISTRATOR, kubernetes.METRICS):
            Path(root + path).parent.mkdir(parents=True, exist_ok=True)
            Path(root + path).touch()
        with (
            patch.object(
                kubernetes, "query", lambda *argv: answers.get(argv[1] if len(argv) > 1 else argv[0], {"items": []})
            ),
            patch.object(
                kubernetes,
                "list_objects",
                lambda paths, selector="": (item for kind in paths for item in lists.get(kind, [])),
            ),
            patch.object(kubernetes, "api_groups", lambda: [kubernetes.KUEUE, kubernetes.LEADER_WORKER_SET]),
            queue_objects.manifests(),
        ):
            cluster = kubernetes.cluster(root)
    return {"identity": specs[0].identity, "kubernetes_cluster": json.loads(json.dumps(cluster))}


def _servers(root: str) -> Raw:
    """Return what the probe finds of servers, whose models are whole: no model has the version of these fleets."""
    found = servers.servers(root)
    for server in found.values():
        server["models"] = dict.fromkeys(server["models"], "whole")
    return found


def _mount(each: mounts.ReadOnlyMount) -> Raw:
    options = ["nodev", "nosuid", "relatime", "ro"]
    return {"target": each.target, "root": each.source, "device": "sda1", "type": "ext4", "options": options}


def _write_files(root: Path, spec: PodFilesSpec, repository: Repository) -> None:
    workload = spec.workload
    texts: dict[str, str | bytes] = {}
    for file in files(spec, repository):
        assert file.content is not None and file.mode == 0o644
        texts[file.path] = file.content
    texts[ownership.owner_file(workload.owner)] = ownership.owner_text(spec.id, spec.fleet, "ready")
    if workload.server:
        texts[f"{workload.lib}/models/{workload.server.version}/model.json"] = '{"files": {}}'
    for path, content in texts.items():
        place = root / path.removeprefix("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content if isinstance(content, bytes) else content.encode())
        place.chmod(0o644)
    (root / workload.lib.removeprefix("/")).chmod(0o755)
    if (keys := root / workload.keys.removeprefix("/")).is_dir():
        keys.chmod(0o750)


def _stored(item: Object) -> Object:
    """Return a declared object as the API stores it: with defaults, and with the state that its controller keeps."""
    item = json.loads(json.dumps(item))
    metadata = item["metadata"]
    metadata.update(uid=f"uid-of-{metadata['name']}", resourceVersion="100", generation=1)
    common = {"operation": "Update", "apiVersion": item["apiVersion"], "fieldsType": "FieldsV1", "fieldsV1": {}}
    metadata["managedFields"] = [
        {**common, "manager": "rackwright"},
        {**common, "manager": "kube-controller-manager"},
        {**common, "manager": "kubelet", "subresource": "status"},
    ]
    spec, status = item["spec"], {}
    if "template" in spec:
        spec["template"]["metadata"].setdefault("creationTimestamp", None)
        _complete_pod(spec["template"]["spec"])
    match item["kind"]:
        case "Job":
            spec.update(podReplacementPolicy="TerminatingOrFailed", manualSelector=False)
            spec["selector"] = {"matchLabels": {"batch.kubernetes.io/controller-uid": metadata["uid"]}}
            status = {"active": spec["completions"], "ready": spec["completions"], "terminating": 0}
        case "HorizontalPodAutoscaler":
            status = {"currentReplicas": 1, "desiredReplicas": 1, "observedGeneration": 1}
        case "Deployment":
            spec.setdefault("replicas", 1)  # as the autoscaler has set it
            counts = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")
            condition = {"type": "Available", "status": "True", "message": "Deployment has minimum availability."}
            status = {"observedGeneration": 1, **dict.fromkeys(counts, spec["replicas"]), "conditions": [condition]}
        case "LeaderWorkerSet":
            counts = ("replicas", "updatedReplicas", "readyReplicas")
            condition = {"type": "Available", "status": "True", "message": "All replicas are ready"}
            status = {"observedGeneration": 1, **dict.fromkeys(counts, spec["replicas"]), "conditions": [condition]}
        case "Service":
            address = spec.get("clusterIP", ADDRESS)
            for name, value in {**_SERVICE, "clusterIP": address, "clusterIPs": [address]}.items():
                spec.setdefault(name, value)
            status = {"loadBalancer": {}}
        case "PersistentVolume":
            spec["claimRef"].update(uid="uid", resourceVersion="90")
            status = {"phase": "Bound"}
        case "PersistentVolumeClaim":
            status = {"phase": "Bound", "accessModes": spec["accessModes"]}
        case "PodDisruptionBudget":
            status = {"currentHealthy": 1, "desiredHealthy": 0, "disruptionsAllowed": 1, "observedGeneration": 1}
    return {**item, "status": status}


def _complete_pod(pod: Object) -> None:
    pod.update(_POD)
    pod.setdefault("restartPolicy", "Always")
    for container in (*pod["containers"], *pod.get("initContainers", ())):
        container.update(_CONTAINER)
        for port in container.get("ports", ()):
            port.setdefault("protocol", "TCP")
        for name in ("startupProbe", "readinessProbe"):
            if name in container:
                container[name].update(_PROBE)
                container[name]["httpGet"]["scheme"] = "HTTP"


def _node(name: str) -> Object:
    return {
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "spec": {},
        "status": {"conditions": [{"type": "Ready", "status": "True"}], "nodeInfo": {"kubeletVersion": VERSION}},
    }
