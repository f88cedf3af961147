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


@pytest.mark.parametrize("odd", [{"unknown": "x"}, [], "x", None, {}, {"ready": "x"}, {"pressure": 1}], ids=repr)
def test_a_node_that_is_not_understood_is_not_ready_and_ends_no_others(odd: Any):
    good = lines({"nodes": {"gpu-03": NODE}, "workloads": [WORKLOAD]})
    found = lines({"nodes": {"a": odd, "gpu-03": NODE}, "workloads": [odd, WORKLOAD]})
    assert found == good | {'rackwright_node_ready{node="a"} 0'}


@pytest.mark.parametrize("facts", [{"unknown": "x"}, {"nodes": {"unknown": "x"}, "workloads": {"unknown": "y"}}, None])
def test_without_an_answer_only_its_absence_is_known(facts: Any):
    assert lines(facts) == {"rackwright_cluster_read 0", "rackwright_cluster_timestamp_seconds 1000.5"}


def test_nodes_are_known_without_servers_and_servers_without_nodes():
    lost = {"unknown": "no answer"}
    assert 'rackwright_node_ready{node="gpu-03"} 1' in lines({"nodes": {"gpu-03": NODE}, "workloads": lost})
    found = lines({"nodes": lost, "workloads": [WORKLOAD]})
    assert {'rackwright_pods_wanted{namespace="fraud",server="score"} 3', "rackwright_cluster_read 0"} <= found


def test_the_servers_of_one_team_push_out_none_of_another():
    many = [{**WORKLOAD, "namespace": "busy", "name": f"score-{number}"} for number in range(10_000)]
    found = lines({"nodes": {}, "workloads": [*many, WORKLOAD]})
    assert 'rackwright_pods_ready{namespace="fraud",server="score"} 2' in found
    assert len([line for line in found if "pods_ready" in line]) == cluster_metrics.WORKLOADS_MAX


def test_labels_that_are_equal_once_cut_are_one_series():
    name = "n" * 200
    text = to_text([("up", {"node": name}, 0.0), ("up", {"node": f"{name}x"}, 1.0)])
    assert text.count("up{") == 1


def test_servers_are_deployments_and_groups_of_rackwright(monkeypatch: pytest.MonkeyPatch):
    asked = []

    def list_objects(lists: dict[str, str], selector: str) -> list[dict[str, Any]]:
        asked.append((sorted(lists), selector))
        metadata = {"namespace": "fraud", "name": "score"}
        good = {"kind": "Deployment", "metadata": metadata, "spec": {"replicas": 3}, "status": {"readyReplicas": 2}}
        return [{"kind": "Deployment", "metadata": {"labels": {}}}, good]

    monkeypatch.setattr(kubernetes, "api_groups", lambda: [kubernetes.LEADER_WORKER_SET])
    monkeypatch.setattr(kubernetes, "list_objects", list_objects)

    odd, found = cluster_metrics.read_workloads()
    assert (odd.keys(), found) == ({"unknown"}, WORKLOAD)
    assert asked == [(["Deployment", "LeaderWorkerSet"], kubernetes.MANAGED_BY)]


def test_the_program_for_hosts_runs_alone(tmp_path: Path):
    program, path = tmp_path / "program", tmp_path / "cluster.prom"
    program.write_text(cluster_metrics_program().replace("module.write()", f"module.write({str(path)!r})"))
    subprocess.run(["/usr/bin/python3", "-I", "-S", str(program)], check=True)

    assert "rackwright_cluster_read 0\n" in path.read_text(), "this computer has no control plane"
