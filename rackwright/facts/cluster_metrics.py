"""The program that writes metrics of a cluster into a file of node_exporter; a timer of a control plane starts it.

It asks the API as the probe does, with the administrator's file that root has there in any case.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from rackwright.facts.metrics_text import Sample, collect, is_unknown, rows_of, table_of, to_text, write_file
from rackwright.facts.probe import kubernetes
from rackwright.facts.probe.isolate import isolate_all
from rackwright.facts.probe.observe import attempt

PATH = "/var/lib/prometheus/node-exporter/rackwright_cluster.prom"
SECONDS = 45
NODES_MAX, WORKLOADS_MAX = 1000, 2000
"""Nodes, and servers in pods, with metrics. Teams choose the number of theirs, and each has an equal part."""


def write(path: str = PATH) -> None:
    """Write the metrics of the cluster."""
    facts = isolate_all({"nodes": read_nodes, "workloads": read_workloads}, seconds=SECONDS)
    write_file(path, to_text(samples(facts, time.time())))


def read_nodes() -> dict[str, Any]:
    """Return the properties of the nodes by their names."""
    return kubernetes.states(kubernetes.query("get", "nodes")["items"])


def read_workloads() -> list[Any]:
    """Return the wanted and ready pods of each server; one that is not understood is unknown alone."""
    lists = {"Deployment": kubernetes.WORKLOADS["Deployment"]}
    if kubernetes.LEADER_WORKER_SET in kubernetes.api_groups():
        lists.update(kubernetes.GROUP_LISTS)
    return [attempt(workload, item) for item in kubernetes.list_objects(lists, kubernetes.MANAGED_BY)]


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
        facts: The answers of `read_nodes` and `read_workloads`.
        now: Time of the reading, in seconds since 1970.
    """
    has_both = isinstance(facts, dict) and not is_unknown(facts) and not any(map(is_unknown, facts.values()))
    yield "rackwright_cluster_read", {}, float(has_both)
    yield "rackwright_cluster_timestamp_seconds", {}, round(now, 3)
    for name, state in [*table_of(facts, "nodes").items()][:NODES_MAX]:
        yield from _of_node(name, state if isinstance(state, dict) else {})
    workloads = equal_parts(row for row in rows_of(facts, "workloads") if isinstance(row, dict))
    yield from collect(_of_workload, ((row,) for row in workloads[:WORKLOADS_MAX]))


def equal_parts(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return *rows* with the first of each namespace in front, then the second ones, and so on."""
    seen: Counter[str] = Counter()
    ranked = []
    for row in rows:
        namespace = str(row.get("namespace"))
        ranked.append((seen[namespace], row))
        seen[namespace] += 1
    return [row for _, row in sorted(ranked, key=lambda pair: pair[0])]


def _of_node(name: str, state: dict[str, Any]) -> Iterator[Sample]:
    """Yield the samples of a node; one whose state is unknown is not known to be ready."""
    yield "rackwright_node_ready", {"node": name}, float(state.get("ready") is True)
    pressure = state.get("pressure")
    if not isinstance(pressure, list):
        return
    for condition in kubernetes.PRESSURE:
        yield "rackwright_node_pressure", {"node": name, "condition": condition}, float(condition in pressure)


def _of_workload(row: dict[str, Any]) -> Iterator[Sample]:
    labels = {"namespace": row["namespace"], "server": row["name"]}
    yield "rackwright_pods_wanted", labels, float(row["wanted"])
    yield "rackwright_pods_ready", labels, float(row["ready"])
