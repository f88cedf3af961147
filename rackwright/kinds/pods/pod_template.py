"""The common part of all pods of runs and servers: their rights, their place, and the paths of their hosts."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

from rackwright.kinds.cluster.quantity import GPU, Object, quantity
from rackwright.kinds.pods import image
from rackwright.kinds.pods.mounts import mount_path
from rackwright.kinds.pods.release import ARCHIVE
from rackwright.kinds.pods.spec import WorkloadPart
from rackwright.kinds.shared.pod_volumes import OUT, claim_name
from rackwright.schema.cluster import HOSTNAME_LABEL

MANAGED_BY = {"app.kubernetes.io/managed-by": "rackwright"}
"""Label of all objects that rackwright makes for runs and servers. Source: Kubernetes, "Recommended Labels"."""
HOSTNAME = HOSTNAME_LABEL
EVICTION_SECONDS = 30
"""Seconds after which a pod leaves a node that does not answer; the cluster notices that after a minute."""


def labels(workload: WorkloadPart) -> dict[str, str]:
    """Return the labels by which all objects of a run or server can be found again."""
    return {**MANAGED_BY, f"rackwright.local/{workload.sort}": workload.name}


def pod_spec(workload: WorkloadPart, name: str, hosts: Sequence[str], stop_seconds: int, priority: str) -> Object:
    """Return what all pods have: no rights, no token of the API, and one pod on each of *hosts*."""
    others = {"labelSelector": {"matchLabels": {"app": name}}, "topologyKey": HOSTNAME}
    term = {"matchExpressions": [{"key": HOSTNAME, "operator": "In", "values": list(hosts)}]}
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "priorityClassName": priority,
        "terminationGracePeriodSeconds": stop_seconds,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": image.ACCOUNT,
            "runAsGroup": image.ACCOUNT,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "affinity": {
            "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}},
            "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [others]},
        },
        "tolerations": [
            {
                "key": f"node.kubernetes.io/{state}",
                "operator": "Exists",
                "effect": "NoExecute",
                "tolerationSeconds": EVICTION_SECONDS,
            }
            for state in ("not-ready", "unreachable")
        ],
        "volumes": [
            *(
                {
                    "name": each,
                    "persistentVolumeClaim": {"claimName": claim, **({"readOnly": True} if read_only else {})},
                }
                for each, claim, _, read_only in host_paths(workload)
            ),
            *({"name": name, "emptyDir": {"medium": "Memory"}} for name in _memory(workload)),
        ],
    }


def container(workload: WorkloadPart, name: str, release: str) -> Object:
    """Return what all containers have: the Python environment of their host, and the code of *release*."""
    limits = {"cpu": str(workload.cpus), "memory": quantity(workload.memory)}
    if workload.gpus:
        limits[GPU] = str(workload.gpus)
    return {
        "name": name,
        "image": image.name(),
        "imagePullPolicy": "Never",
        "command": [workload.python],
        "env": [
            {"name": "PYTHONPATH", "value": f"{release}/{ARCHIVE}"},
            {"name": "PYTHONDONTWRITEBYTECODE", "value": "1"},
            {"name": "PYTHONUNBUFFERED", "value": "1"},
            {"name": "HOME", "value": "/tmp"},
            {"name": "PATH", "value": f"{workload.environment}/bin:/usr/bin:/bin"},
        ],
        "resources": {"requests": dict(limits), "limits": limits},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            *(
                {"name": each, "mountPath": path, **({"readOnly": True} if read_only else {})}
                for each, _, path, read_only in host_paths(workload)
            ),
            *({"name": name, "mountPath": f"/dev/{name}"} for name in _memory(workload)),
        ],
    }


def _memory(workload: WorkloadPart) -> tuple[str, ...]:
    """Return the directory of shared memory, if several GPUs or processes share data through it.

    Other pods have none, and write to their own layer of the image: a drain refuses a pod with an `emptyDir`.
    """
    vllm = workload.server is not None and workload.server.vllm
    return ("shm",) if workload.gpus > 1 or vllm else ()


def host_paths(workload: WorkloadPart) -> Iterator[tuple[str, str, str, bool]]:
    """Yield the paths of hosts in pods: name of the volume, of its claim, path, and whether pods may only read."""
    for name, path in workload.paths.items():
        # another path or other hosts are another volume, because Kubernetes changes neither
        text = json.dumps([path, sorted(workload.hosts), volume_path(workload, name, path)])
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        yield name, claim_name(workload.owner, name, digest), path, name != OUT


def volume_path(workload: WorkloadPart, name: str, path: str) -> str:
    """Return the path of the volume *name* on hosts: a read-only mount of *path*, or *path* that pods write to."""
    return path if name == OUT else mount_path(workload, name)


def in_namespace(namespace: str, version: str, kind: str, name: str, **content: Any) -> Object:
    """Return an object in *namespace* of the API *version*."""
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": namespace}, **content}
