"""The state of the pods of a run or server, and its report."""

from collections.abc import Mapping
from typing import Any

from rackwright.core.contract import Absent, Value
from rackwright.facts.facts import Facts
from rackwright.facts.kubernetes import ClusterFacts, WorkloadObject
from rackwright.facts.view import UnknownFact
from rackwright.kinds.pods.server_objects import VERSION
from rackwright.kinds.pods.spec import LAUNCHER, PodFilesSpec, PodsSpec

OVER = ("Complete", "SuccessCriteriaMet", "Completed")
"""Conditions of a job whose pods have all ended well; the second one comes first, while pods still end.

The last one is that of a job set.
"""
JOBS = ("Job", "JobSet")
SERVERS = {"Deployment": "availableReplicas", "LeaderWorkerSet": "readyReplicas"}
"""Kinds of objects with the pods of a server, each with the count of those that serve."""


def outcome(cluster: ClusterFacts, team: str, sort: str, name: str) -> Value:
    """Return the state of a run (running, queued, finished, stopped or failed) or of a server (ready or not ready).

    The launcher ends after the last step of all pods. A worker whose node was lost then cannot say that it finished,
    and its successor finds no launcher.
    """
    if sort == "server":
        states = [
            _is_ready(each, serving)
            for kind, serving in SERVERS.items()
            for each in cluster.workloads(f"{team}/{kind}/")
            if each.labels.get("rackwright.local/server") == name
        ]
        return Absent() if not states else "ready" if all(states) else "not ready"
    several = (each for kind in JOBS for each in cluster.workloads(f"{team}/{kind}/"))
    jobs = [each for each in several if each.labels.get("rackwright.local/run") == name]
    if not jobs:
        return Absent()
    leading = (cluster.workload(f"{team}/{each}") for each in (f"Job/{name}-{LAUNCHER}", f"JobSet/{name}"))
    if any(job is not None and is_over(job) for job in leading):
        return "finished"
    if any("Failed" in job.conditions for job in jobs):
        return "failed"
    if not any(job.is_suspended for job in jobs):
        return "running"
    job = f"{team}/JobSet/{name}"
    waiting = cluster.queue.job(job) if cluster.workload(job) and cluster.queue else None
    return "queued" if waiting is not None and waiting.active else "stopped"


def of_cluster(spec: PodsSpec, facts: Facts) -> dict[str, Any]:
    """Return the outcome, and the number of pods that are ready."""
    workload = spec.workload
    try:
        if facts.cluster is None:
            return {}
        state = outcome(facts.cluster, workload.team, workload.sort, workload.name)
        kinds = workload.job_names if workload.run else (workload.server_object,)
        found = [facts.cluster.workload(f"{workload.team}/{each}") for each in kinds]
        each_has = workload.server.replica_pods if workload.server else 1
        ready = each_has * sum(each.ready for each in found if each is not None)
        report: dict[str, Any] = {"outcome": state if isinstance(state, str) else "absent"}
        if workload.server:
            report["version"] = next((each.labels.get(VERSION) for each in found if each is not None), None)
        if state == "queued":
            report |= _of_queue(facts.cluster, f"{workload.team}/JobSet/{workload.name}")
        wanted = found[0].replicas if workload.autoscale and found[0] else workload.count
        return {**report, "pods_ready": ready, "pods": wanted}
    except UnknownFact as reason:
        return {"unknown": str(reason)}


def _of_queue(cluster: ClusterFacts, name: str) -> dict[str, Any]:
    """Return the place of a run in its queue, 1 for the next one, and why it waits."""
    queue = cluster.queue
    waiting = queue.job(name) if queue else None
    return {"place": queue.place(name), "why": waiting.message} if queue and waiting else {}


def of_host(spec: PodFilesSpec, facts: Facts) -> dict[str, Any]:
    """Return the progress of the processes on a host; on the launcher host also step, loss and checkpoint."""
    workload = spec.workload
    if not workload.run:
        return {}
    try:
        run = facts.run(workload.name)
        if run is None:
            return {}
        ranks = {name: int(values["step"]) for name, values in run.ranks.items() if "step" in values}
        if spec.host != workload.hosts[0]:
            return {"ranks": ranks}
        newest: Mapping[str, float] = max(run.ranks.values(), key=lambda each: each.get("time", 0), default={})
        report: dict[str, Any] = {"ranks": ranks, "steps": run.steps, "checkpoint": run.checkpoint}
        if "step" in newest:
            report["step"] = int(newest["step"])
            report |= {"loss": round(newest["loss"], 6)} if "loss" in newest else {}
            report["eta_seconds"] = round((run.steps - newest["step"]) * newest.get("step_seconds", 0))
        return report
    except UnknownFact as reason:
        return {"unknown": str(reason)}


def is_over(job: WorkloadObject) -> bool:
    """Return whether all pods of a job have ended well."""
    return any(each in job.conditions for each in OVER)


def _is_ready(served: WorkloadObject, serving: str) -> bool:
    """Return whether all pods of a deployment, or all groups, are new and serve, by their count *serving*."""
    counts = (served.count("replicas"), served.count("updatedReplicas"), served.count(serving))
    return served.is_observed and counts == (served.replicas,) * 3
