"""The objects of Kubernetes of a server: a deployment, or groups of pods of which each is one replica."""

from collections.abc import Iterator
from typing import Any

from rackwright.kinds.cluster.quantity import Object
from rackwright.kinds.pods.pod_template import container, in_namespace, labels, pod_spec
from rackwright.kinds.pods.release import INTERFACE
from rackwright.kinds.pods.spec import GRPC_PORT, PORT, AutoscalePart, ServerPart, WorkloadPart

MODEL = "/model"
VERSION = "rackwright.local/version"
"""Label of a deployment or of groups: the version of the model."""
WORKER_INDEX = "leaderworkerset.sigs.k8s.io/worker-index"
"""Label of a pod of a group, 0 for its leader. Source: LeaderWorkerSet, "Labels and annotations"."""


def objects(workload: WorkloadPart, server: ServerPart, release: str) -> Iterator[Object]:
    """Yield the objects of a server whose files are in the directory *release*."""
    yield _service(workload, server)
    yield _disruption_budget(workload)
    made = _groups(workload, server, release) if server.replica_pods > 1 else _deployment(workload, server, release)
    made["metadata"]["labels"] = {VERSION: server.version}
    yield made
    if workload.autoscale:
        yield _autoscaler(workload, workload.autoscale)


def _service(workload: WorkloadPart, server: ServerPart) -> Object:
    """Return the address for clients, which the leaders alone answer in groups."""
    leaders = {WORKER_INDEX: "0"} if server.replica_pods > 1 else {}
    ports = [{"name": "http", "port": server.port, "targetPort": PORT, "protocol": "TCP"}]
    if server.grpc_port is not None:
        ports.append({"name": "grpc", "port": server.grpc_port, "targetPort": GRPC_PORT, "protocol": "TCP"})
    spec = {"selector": {"app": workload.name, **leaders}, "ports": ports}
    return in_namespace(workload.team, "v1", "Service", workload.name, spec=spec)


def _disruption_budget(workload: WorkloadPart) -> Object:
    spec = {"maxUnavailable": 1, "selector": {"matchLabels": {"app": workload.name}}}
    return in_namespace(workload.team, "policy/v1", "PodDisruptionBudget", workload.name, spec=spec)


def _deployment(workload: WorkloadPart, server: ServerPart, release: str) -> Object:
    serve = ["-m", "workloads.serving", MODEL, "--settings", f"{release}/settings.json"]
    spec = {
        # an autoscaler owns the number of pods
        **({} if workload.autoscale else {"replicas": workload.count}),
        "minReadySeconds": 2,
        "progressDeadlineSeconds": server.ready_seconds + 60,
        "revisionHistoryLimit": 3,
        "selector": {"matchLabels": {"app": workload.name}},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": _surge(workload, 1)},
        "template": _template(workload, server, release, {"args": serve, **_answers(server)}),
    }
    return in_namespace(workload.team, "apps/v1", "Deployment", workload.name, spec=spec)


def _autoscaler(workload: WorkloadPart, autoscale: AutoscalePart) -> Object:
    target = {"type": "Utilization", "averageUtilization": autoscale.cpu_percent}
    spec = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": workload.name},
        "minReplicas": workload.count,
        "maxReplicas": autoscale.max,
        "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
    }
    return in_namespace(workload.team, "autoscaling/v2", "HorizontalPodAutoscaler", workload.name, spec=spec)


def _groups(workload: WorkloadPart, server: ServerPart, release: str) -> Object:
    """Return the groups of pods. One pod that starts again starts its whole group again: vLLM cannot take it back."""
    peers = ("--port", str(server.replica_port), "--interface", INTERFACE, "--key", workload.lease_key)
    serve = ["-m", "workloads.serving.group", MODEL, "--settings", f"{release}/settings.json", *peers]
    address = {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
    program: Object = {"args": serve, "env": [*container(workload, "server", release)["env"], address]}
    spec = {
        "replicas": workload.count // server.replica_pods,
        "startupPolicy": "LeaderCreated",
        "networkConfig": {"subdomainPolicy": "Shared"},
        "rolloutStrategy": {
            "type": "RollingUpdate",
            "rollingUpdateConfiguration": {**_surge(workload, server.replica_pods), "partition": 0},
        },
        "leaderWorkerTemplate": {
            "size": server.replica_pods,
            "restartPolicy": "RecreateGroupOnPodRestart",
            "leaderTemplate": _template(workload, server, release, {**program, **_answers(server)}),
            "workerTemplate": _template(workload, server, release, program),
        },
    }
    name = workload.group_name
    return in_namespace(workload.team, "leaderworkerset.x-k8s.io/v1", "LeaderWorkerSet", name, spec=spec)


def _answers(server: ServerPart) -> dict[str, Any]:
    """Return how Kubernetes asks a container whether it answers, first for the declared version of the model."""
    check = f"/v2/models/{server.model}/versions/{server.version}/ready" if server.model else "/ready"
    start = {"httpGet": {"path": check, "port": PORT}, "periodSeconds": 2, "failureThreshold": server.ready_seconds}
    probe = {"httpGet": {"path": "/ready", "port": PORT}, "periodSeconds": 2, "failureThreshold": 1}
    ports = [PORT] if server.grpc_port is None else [PORT, GRPC_PORT]
    return {"ports": [{"containerPort": port} for port in ports], "startupProbe": start, "readinessProbe": probe}


def _template(workload: WorkloadPart, server: ServerPart, release: str, program: dict[str, Any]) -> Object:
    """Return the pods of a server whose container has *program* in addition to what all containers have."""
    containers = [{**container(workload, "server", release), **program}]
    pod = {
        **pod_spec(workload, workload.name, workload.hosts, server.stop_seconds, "serving"),
        "containers": containers,
    }
    if rows := server.rows:
        data = f"{workload.lib}/data/{rows.sha256[:12]}.npz"
        arguments = [MODEL, data, str(rows.accuracy), "--settings", f"{release}/settings.json"]
        canary = {**container(workload, "canary", release), "args": ["-m", "workloads.serving.canary", *arguments]}
        pod["initContainers"] = [canary]
    for each in (*containers, *pod.get("initContainers", ())):
        mount = {"name": "files", "mountPath": MODEL, "subPath": f"models/{server.version}", "readOnly": True}
        each["volumeMounts"] = [*each["volumeMounts"], mount]
    return {"metadata": {"labels": {**labels(workload), "app": workload.name}}, "spec": pod}


def _surge(workload: WorkloadPart, pods: int) -> dict[str, int]:
    """Return how a rollout replaces replicas of *pods* each: spare hosts take the new one before an old one ends."""
    largest = workload.autoscale.max if workload.autoscale else workload.count
    spare = len(workload.hosts) - largest >= pods
    return {"maxSurge": 1, "maxUnavailable": 0} if spare else {"maxSurge": 0, "maxUnavailable": 1}
