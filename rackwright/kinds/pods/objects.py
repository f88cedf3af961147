"""The objects of Kubernetes of a run or server: services, volumes of paths of the hosts, jobs, and those of servers."""

import hashlib
import json
from collections.abc import Iterator, Sequence

from rackwright.core.repository import Repository
from rackwright.kinds.cluster.quantity import Object
from rackwright.kinds.cluster.queue import QUEUE, QUEUE_LABEL
from rackwright.kinds.cluster.team import name_of
from rackwright.kinds.pods import server_objects
from rackwright.kinds.pods.mounts import OPTIONS
from rackwright.kinds.pods.pod_template import (
    HOSTNAME,
    container,
    host_paths,
    in_namespace,
    labels,
    pod_spec,
    volume_path,
)
from rackwright.kinds.pods.release import directory
from rackwright.kinds.pods.spec import LAUNCHER, PodsSpec, RunPart, WorkloadPart
from rackwright.kinds.shared import run_config

FLEET = "rackwright.local/fleet"
"""Label of an object: the fleet that declares its run or server."""
CONTENT = "rackwright.local/content"
"""Annotation with the digest of what was declared; a job with another one is made again."""
CONFIG = "rackwright.local/config"
"""Label of a job: the beginning of the SHA-256 of its run's configuration, by which a finished job is known."""
STARTS = 100
"""Starts of failing pods after which a job fails."""


def objects(spec: PodsSpec, repository: Repository) -> dict[str, Object]:
    """Return the objects by name, such as ``vision/Job/digits-launcher``; each after what it needs."""
    workload = spec.workload
    made = [*_volumes(workload), *_workload(workload, repository)]
    for each in made:
        metadata = each["metadata"]
        metadata["labels"] = {**labels(workload), FLEET: spec.fleet, **metadata.get("labels", {})}
        metadata["annotations"] = {CONTENT: _digest(each)}
    return {name_of(each): each for each in made}


def _workload(workload: WorkloadPart, repository: Repository) -> Iterator[Object]:
    release = directory(workload, repository)
    if workload.run:
        yield _service(workload)
        first, *others = workload.hosts
        jobs = []
        for number, part in enumerate(workload.parts):
            hosts = (first,) if number == 0 else tuple(others)
            count = 1 if number == 0 else workload.count - 1
            jobs.append(_job(workload, workload.run, f"{workload.name}-{part}", hosts, (number, count), release))
        yield from [_job_set(workload, workload.run, jobs)] if workload.queue else jobs
    if workload.server:
        yield from server_objects.objects(workload, workload.server, release)


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
        **pod_spec(workload, name, hosts, run.grace_seconds + 30, "training"),
        "subdomain": workload.name,
        "restartPolicy": "OnFailure" if run.restart else "Never",
        "containers": [{**container(workload, "training", release), "args": list(module)}],
    }
    spec = {
        "completionMode": "Indexed",
        "completions": count,
        "parallelism": count,
        "backoffLimit": STARTS if run.restart else 0,
        "suspend": False,
        "template": {"metadata": {"labels": {**labels(workload), "app": name}}, "spec": pod},
    }
    job = in_namespace(workload.team, "batch/v1", "Job", name, spec=spec)
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
    made = in_namespace(workload.team, "jobset.x-k8s.io/v1alpha2", "JobSet", workload.name, spec=spec)
    made["metadata"]["labels"] = {CONFIG: config_label(run), QUEUE_LABEL: QUEUE}
    return made


def config_label(run: RunPart) -> str:
    """Return the label of the jobs of *run* with its declared configuration."""
    return run_config.digest(run.config)[:16]


def _service(workload: WorkloadPart) -> Object:
    """Return the service of a run, which gives its pods their names."""
    spec = {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": {"rackwright.local/run": workload.name}}
    return in_namespace(workload.team, "v1", "Service", workload.name, spec=spec)


def _volumes(workload: WorkloadPart) -> Iterator[Object]:
    """Yield a volume and its claim for each path: pods of a team may not name paths of their host themselves."""
    term = {"matchExpressions": [{"key": HOSTNAME, "operator": "In", "values": sorted(workload.hosts)}]}
    for name, claim, path, read_only in host_paths(workload):
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
            "local": {"path": volume_path(workload, name, path)},
            # kubelet binds the path once more, and that mount has these options and no others: without `ro` it could be
            # written to, although its source is read-only
            **({"mountOptions": list(OPTIONS)} if read_only else {}),
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
        yield in_namespace(workload.team, "v1", "PersistentVolumeClaim", claim, spec=request)


def _digest(item: Object) -> str:
    return hashlib.sha256(json.dumps(item, sort_keys=True).encode()).hexdigest()[:16]
