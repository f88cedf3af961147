"""The metrics of a cluster: nodes and servers in pods, of which none ends the metrics of others."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from rackwright.facts import cluster_metrics
from rackwright.facts.metrics_text import to_text
from rackwright.facts.probe import kubernetes
from rackwright.facts.program import cluster_metrics_program

NODE = {"ready": True, "pressure": ["DiskPressure"]}
WORKLOAD = {"namespace": "fraud", "name": "score", "wanted": 3, "ready": 2}


def lines(facts: Any) -> set[str]:
    text = to_text(cluster_metrics.samples(facts, 1000.5))
    return {line for line in text.splitlines() if not line.startswith("#")}


def test_nodes_and_servers_have_their_values():
    found = lines({"nodes": {"gpu-03": NODE, "gpu-04": {"ready": False, "pressure": []}}, "workloads": [WORKLOAD]})

    assert {line for line in found if line.endswith(" 1") or "pods" in line or "ready" in line} == {
        "rackwright_cluster_read 1",
        'rackwright_node_ready{node="gpu-03"} 1',
        'rackwright_node_ready{node="gpu-04"} 0',
        'rackwright_node_pressure{node="gpu-03",condition="DiskPressure"} 1',
        'rackwright_pods_wanted{namespace="fraud",server="score"} 3',
        'rackwright_pods_ready{namespace="fraud",server="score"} 2',
    }
    assert 'rackwright_node_pressure{node="gpu-04",condition="DiskPressure"} 0' in found


@pytest.mark.parametrize("odd", [{"unknown": "x"}, [], "x", None, {}, {"ready": "x"}], ids=repr)
def test_a_node_that_is_not_understood_has_no_metrics_alone(odd: Any):
    good = lines({"nodes": {"gpu-03": NODE}, "workloads": [WORKLOAD]})
    assert lines({"nodes": {"a": odd, "gpu-03": NODE}, "workloads": [odd, WORKLOAD]}) == good


def test_without_an_answer_only_its_absence_is_known():
    assert lines({"unknown": "no answer"}) == {
        "rackwright_cluster_read 0",
        "rackwright_cluster_timestamp_seconds 1000.5",
    }


def test_servers_are_deployments_and_groups_of_rackwright(monkeypatch: pytest.MonkeyPatch):
    asked = []

    def list_objects(lists: dict[str, str], selector: str) -> list[dict[str, Any]]:
        asked.append((sorted(lists), selector))
        metadata = {"namespace": "fraud", "name": "score"}
        return [{"kind": "Deployment", "metadata": metadata, "spec": {"replicas": 3}, "status": {"readyReplicas": 2}}]

    monkeypatch.setattr(kubernetes, "api_groups", lambda: [kubernetes.LEADER_WORKER_SET])
    monkeypatch.setattr(kubernetes, "query", lambda *arguments: {"items": []})
    monkeypatch.setattr(kubernetes, "list_objects", list_objects)

    assert cluster_metrics.read() == {"nodes": {}, "workloads": [WORKLOAD]}
    assert asked == [(["Deployment", "LeaderWorkerSet"], kubernetes.MANAGED_BY)]


def test_the_program_for_hosts_runs_alone(tmp_path: Path):
    program, path = tmp_path / "program", tmp_path / "cluster.prom"
    program.write_text(cluster_metrics_program().replace("module.write()", f"module.write({str(path)!r})"))
    subprocess.run(["/usr/bin/python3", "-I", "-S", str(program)], check=True)

    assert "rackwright_cluster_read 0\n" in path.read_text(), "this computer has no control plane"
