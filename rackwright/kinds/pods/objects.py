"""The objects of Kubernetes of a run or server: services, volumes of paths of the hosts, jobs, deployments."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

from rackwright.core.repository import Repository
from rackwright.kinds.cluster.quantity import GPU, Object, quantity
from rackwright.kinds.cluster.queue import QUEUE, QUEUE_LABEL
from rackwright.kinds.cluster.team import name_of
from rackwright.kinds.pods import image
from rackwright.kinds.pods.release import ARCHIVE, directory
from rackwright.kinds.pods.spec import LAUNCHER, PORT, PodsSpec, RunPart, ServerPart, WorkloadPart
from rackwright.kinds.shared import run_config

MANAGED_BY = {"app.kubernetes.io/managed-by": "rackwright"}
"""Label of all objects that rackwright makes for runs and servers. Source: Kubernetes, "Recommended Labels"."""
FLEET = "rackwright.local/fleet"
"""Label of an object: the fleet that declares its run or server."""
CONTENT = "rackwright.local/content"
"""Annotation with the digest of what was declared; a job with another one is made again."""
CONFIG = "rackwright.local/config"
"""Label of a job: the beginning of the SHA-256 of its run's configuration, by which a finished job is known."""
HOSTNAME = "kubernetes.io/hostname"
EVICTION_SECONDS = 30
"""Seconds after which a pod leaves a node that does not answer; the cluster notices that after a minute."""
STARTS = 100
"""Starts of failing pods after which a job fails."""
MODEL = "/model"
VERSION = "rackwright.local/version"
"""Label of a deployment: the version of its model."""


def objects(spec: PodsSpec, repository: Repository) -> dict[str, Object]:
    """Return the objects by name, such as ``vision/Job/digits-launcher``; each after what it needs."""
    workload = spec.workload
    made = [*_volumes(workload), _service(workload), *_workload(workload, repository)]
    for each in made:
        metadata = each["metadata"]
        metadata["labels"] = {**_labels(workload), FLEET: spec.fleet, **metadata.get("labels", {})}
        metadata["annotations"] = {CONTENT: _digest(each)}
    return {name_of(each): each for each in made}


def _labels(workload: WorkloadPart) -> dict[str, str]:
    return {**MANAGED_BY, f"rackwright.local/{workload.sort}": workload.name}


def _workload(workload: WorkloadPart, repository: Repository) -> Iterator[Object]:
    release = directory(workload, repository)
    if workload.run:
        first, *others = workload.hosts
        jobs = []
        for number, part in enumerate(workload.parts):
            hosts = (first,) if number == 0 else tuple(others)
            count = 1 if number == 0 else workload.count - 1
            jobs.append(_job(workload, workload.run, f"{workload.name}-{part}", hosts, (number, count), release))
        yield from [_job_set(workload, workload.run, jobs)] if workload.queue else jobs
    if workload.server:
        yield _disruption_budget(workload)
        yield _deployment(workload, workload.server, release)


def _job(
    workload: WorkloadPart, run: RunPart, name: str, hosts: Sequence[str], place: tuple[int, int], release: str
) -> Object:
    """Return the job of the launcher or of the workers.

    Args:
        place: Number of the first of its pods in the run, and the number of its pods.
    """
    first, count = place
    module = ("-m", "workloads.training.pod", f"{release}/run.json", "--first", str(first))
    pod = {
        **_pod(workload, name, hosts, run.grace_seconds + 30, "training"),
        "subdomain": workload.name,
        "restartPolicy": "OnFailure" if run.restart else "Never",
        "containers": [{**_container(workload, "training", release), "args": list(module)}],
    }
    spec = {
        "completionMode": "Indexed",
        "completions": count,
        "parallelism": count,
        "backoffLimit": STARTS if run.restart else 0,
        "suspend": False,
        "template": {"metadata": {"labels": {**_labels(workload), "app": name}}, "spec": pod},
    }
    job = _in(workload.team, "batch/v1", "Job", name, spec=spec)
    job["metadata"]["labels"] = {CONFIG: config_label(run)}
    return job


def _job_set(workload: WorkloadPart, run: RunPart, jobs: Sequence[Object]) -> Object:
    """Return the set of *jobs*, which Kueue admits as a whole; its pods have the service of the run.

    It has finished when its launcher has, and then ends the worker of a lost node, which would wait for the launcher.
    """
    parts = [
        {
            "name": part,
            "replicas": 1,
            "template": {"spec": {key: value for key, value in job["spec"].items() if key != "suspend"}},
        }
        for part, job in zip(workload.parts, jobs, strict=True)
    ]
    spec = {
        "suspend": False,
        "network": {"enableDNSHostnames": False, "publishNotReadyAddresses": True},
        "startupPolicy": {"startupPolicyOrder": "AnyOrder"},
        "successPolicy": {"operator": "All", "targetReplicatedJobs": [LAUNCHER]},
        "replicatedJobs": parts,
    }
    made = _in(workload.team, "jobset.x-k8s.io/v1alpha2", "JobSet", workload.name, spec=spec)
    made["metadata"]["labels"] = {CONFIG: config_label(run), QUEUE_LABEL: QUEUE}
    return made


def config_label(run: RunPart) -> str:
    """Return the label of the jobs of *run* with its declared configuration."""
    return run_config.digest(run.config)[:16]


def _deployment(workload: WorkloadPart, server: ServerPart, release: str) -> Object:
    name = workload.name
    check = f"/v2/models/{server.model}/versions/{server.version}/ready" if server.model else "/ready"
    probe = {"httpGet": {"path": "/ready", "port": PORT}, "periodSeconds": 2, "failureThreshold": 1}
    start = {"httpGet": {"path": check, "port": PORT}, "periodSeconds": 2, "failureThreshold": server.ready_seconds}
    serve = ["-m", "workloads.serving", MODEL, "--settings", f"{release}/settings.json"]
    containers = [
        {
            **_container(workload, "server", release),
            "args": serve,
            "ports": [{"containerPort": PORT}],
            "startupProbe": start,
            "readinessProbe": probe,
        }
    ]
    pod = {**_pod(workload, name, workload.hosts, server.stop_seconds, "serving"), "containers": containers}
    if rows := server.rows:
        data = f"{workload.lib}/data/{rows.sha256[:12]}.npz"
        arguments = [MODEL, data, str(rows.accuracy), "--settings", f"{release}/settings.json"]
        canary = {**_container(workload, "canary", release), "args": ["-m", "workloads.serving.canary", *arguments]}
        pod["initContainers"] = [canary]
    for container in (*containers, *pod.get("initContainers", ())):
        mount = {"name": "files", "mountPath": MODEL, "subPath": f"models/{server.version}", "readOnly": True}
        container["volumeMounts"] = [*container["volumeMounts"], mount]
    spec = {
        "replicas": workload.count,
        "minReadySeconds": 2,
        "progressDeadlineSeconds": server.ready_seconds + 60,
        "revisionHistoryLimit": 3,
        "selector": {"matchLabels": {"app": name}},
        # a spare host takes the new pod first; without one, one pod makes room for another
        "strategy": {"type": "RollingUpdate", "rollingUpdate": _surge(workload)},
        "template": {"metadata": {"labels": {**_labels(workload), "app": name}}, "spec": pod},
    }
    made = _in(workload.team, "apps/v1", "Deployment", name, spec=spec)
    made["metadata"]["labels"] = {VERSION: server.version}
    return made


def _surge(workload: WorkloadPart) -> dict[str, int]:
    spare = len(workload.hosts) > workload.count
    return {"maxSurge": 1, "maxUnavailable": 0} if spare else {"maxSurge": 0, "maxUnavailable": 1}


def _disruption_budget(workload: WorkloadPart) -> Object:
    spec = {"maxUnavailable": 1, "selector": {"matchLabels": {"app": workload.name}}}
    return _in(workload.team, "policy/v1", "PodDisruptionBudget", workload.name, spec=spec)


def _service(workload: WorkloadPart) -> Object:
    """Return the service: an address for clients of a server, or names of the pods of a run."""
    if workload.server:
        ports = [{"name": "http", "port": workload.server.port, "targetPort": PORT, "protocol": "TCP"}]
        spec: Object = {"selector": {"app": workload.name}, "ports": ports}
    else:
        spec = {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": {"rackwright.local/run": workload.name},
        }
    return _in(workload.team, "v1", "Service", workload.name, spec=spec)


def _pod(workload: WorkloadPart, name: str, hosts: Sequence[str], stop_seconds: int, priority: str) -> Object:
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
            *({"name": each, "persistentVolumeClaim": {"claimName": claim}} for each, claim, *_ in _paths(workload)),
            *({"name": name, "emptyDir": {"medium": "Memory"}} for name in _memory(workload)),
        ],
    }


def _container(workload: WorkloadPart, name: str, release: str) -> Object:
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
                for each, _, path, read_only in _paths(workload)
            ),
            *({"name": name, "mountPath": f"/dev/{name}"} for name in _memory(workload)),
        ],
    }


def _memory(workload: WorkloadPart) -> tuple[str, ...]:
    """Return the directory of shared memory, if several GPUs share data through it.

    Other pods have none, and write to their own layer of the image: a drain refuses a pod with an `emptyDir`.
    """
    return ("shm",) if workload.gpus > 1 else ()


def _paths(workload: WorkloadPart) -> Iterator[tuple[str, str, str, bool]]:
    """Yield the paths of hosts in pods: name of the volume, of its claim, path, and whether pods may only read."""
    paths = {"system": "/usr", "environment": workload.environment, "files": workload.lib}
    if workload.run and workload.run.data:
        paths["data"] = workload.run.data
    if workload.out:
        paths["out"] = workload.out
    for name, path in paths.items():
        # another path or other hosts are another volume, because Kubernetes changes neither
        digest = hashlib.sha256(json.dumps([path, sorted(workload.hosts)]).encode()).hexdigest()[:8]
        yield name, f"{workload.owner}-{name}-{digest}", path, name != "out"


def _volumes(workload: WorkloadPart) -> Iterator[Object]:
    """Yield a volume and its claim for each path: pods of a team may not name paths of their host themselves."""
    term = {"matchExpressions": [{"key": HOSTNAME, "operator": "In", "values": sorted(workload.hosts)}]}
    for _, claim, path, read_only in _paths(workload):
        common = {
            "accessModes": ["ReadOnlyMany" if read_only else "ReadWriteMany"],
            "volumeMode": "Filesystem",
        }
        volume = f"{workload.team}-{claim}"
        spec = {
            **common,
            "capacity": {
                "storage": "1Gi"
            },  # no limit: Kubernetes wants a number, and compares it with that of the claim
            "local": {"path": path},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [term]}},
            "persistentVolumeReclaimPolicy": "Retain",
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": workload.team,
                "name": claim,
            },
        }
        yield {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": volume}, "spec": spec}
        # without a class none is chosen: the volume is there already
        request = {
            **common,
            "storageClassName": "",
            "resources": {"requests": {"storage": "1Gi"}},
            "volumeName": volume,
        }
        yield _in(workload.team, "v1", "PersistentVolumeClaim", claim, spec=request)


def _in(namespace: str, version: str, kind: str, name: str, **content: Any) -> Object:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": namespace}, **content}


def _digest(item: Object) -> str:
    return hashlib.sha256(json.dumps(item, sort_keys=True).encode()).hexdigest()[:16]
