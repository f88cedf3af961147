"""The program that writes metrics of a cluster into a file of node_exporter; a timer of a control plane starts it.

It asks the API as the probe does, with the administrator's file that root has there in any case.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from rackwright.facts.metrics_text import Sample, collect, is_unknown, rows_of, table_of, to_text, write_file
from rackwright.facts.probe import kubernetes
from rackwright.facts.probe.isolate import isolate

PATH = "/var/lib/prometheus/node-exporter/rackwright_cluster.prom"
SECONDS = 45
NODES_MAX, WORKLOADS_MAX = 1000, 1000
"""Nodes, and servers in pods, with metrics: teams choose the number of theirs."""


def write(path: str = PATH) -> None:
    """Write the metrics of the cluster."""
    write_file(path, to_text(samples(isolate("cluster", read, seconds=SECONDS), time.time())))


def read() -> dict[str, Any]:
    """Return the properties of nodes, and the wanted and ready pods of each server."""
    lists = {"Deployment": kubernetes.WORKLOADS["Deployment"]}
    if kubernetes.LEADER_WORKER_SET in kubernetes.api_groups():
        lists.update(kubernetes.GROUP_LISTS)
    nodes = kubernetes.states(kubernetes.query("get", "nodes")["items"])
    return {"nodes": nodes, "workloads": [*map(workload, kubernetes.list_objects(lists, kubernetes.MANAGED_BY))]}


def workload(item: dict[str, Any]) -> dict[str, Any]:
    wanted, ready = item["spec"].get("replicas", 1), item.get("status", {}).get("readyReplicas", 0)
    return {
        "namespace": kubernetes.namespace_of(item),
        "name": str(item["metadata"]["name"]),
        "wanted": wanted,
        "ready": ready,
    }


def samples(facts: Any, now: float) -> Iterator[Sample]:
    """Yield the samples of a reading; without an answer of the API, only that it is missing.

    Args:
        facts: The answer of `read`.
        now: Time of the reading, in seconds since 1970.
    """
    yield "rackwright_cluster_read", {}, float(not is_unknown(facts))
    yield "rackwright_cluster_timestamp_seconds", {}, round(now, 3)
    yield from collect(_of_node, [*table_of(facts, "nodes").items()][:NODES_MAX])
    yield from collect(_of_workload, ((row,) for row in rows_of(facts, "workloads")[:WORKLOADS_MAX]))


def _of_node(name: str, state: dict[str, Any]) -> Iterator[Sample]:
    yield "rackwright_node_ready", {"node": name}, float(state["ready"])
    for condition in kubernetes.PRESSURE:
        yield "rackwright_node_pressure", {"node": name, "condition": condition}, float(condition in state["pressure"])


def _of_workload(row: dict[str, Any]) -> Iterator[Sample]:
    labels = {"namespace": row["namespace"], "server": row["name"]}
    yield "rackwright_pods_wanted", labels, float(row["wanted"])
    yield "rackwright_pods_ready", labels, float(row["ready"])
