"""The facts of a cluster when the API of its control plane does not answer."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from rackwright.facts.kubernetes import ClusterFacts, WorkloadObject
from rackwright.facts.probe import kubernetes
from rackwright.facts.probe.observe import OutputTooLarge, ReadError
from rackwright.facts.view import UnknownFact
from tests.support.own_clock import own_clock

SLOW = "error: context deadline exceeded"


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """Return the questions to an API without etcd, each of which takes 20 s of a clock of the test."""
    (tmp_path / "etc/kubernetes").mkdir(parents=True)
    (tmp_path / "etc/kubernetes/admin.conf").touch()
    questions: list[tuple[str, ...]] = []
    now = [0.0]

    def kubectl(*argv: str) -> str:
        questions.append(argv)
        now[0] += 20
        raise ReadError(SLOW)

    monkeypatch.setattr(kubernetes, "run_tool", kubectl)
    own_clock(monkeypatch, kubernetes, monotonic=lambda: now[0])
    return questions


def with_metrics_server(root: Path) -> None:
    """Give a host the objects of Metrics Server."""
    path = Path(f"{root}{kubernetes.METRICS}")
    path.parent.mkdir(parents=True)
    path.write_text('{"items": []}')


def test_an_api_that_keeps_the_probe_waiting_is_asked_once(asked, tmp_path):
    """All questions together would take longer than a look at a host may."""
    with_metrics_server(tmp_path)
    for _ in range(2):  # each look asks again
        found = kubernetes.cluster(str(tmp_path))
        assert found is not None
        reasons = {name: value["unknown"] for name, value in found.items()}

        assert SLOW in reasons.pop("nodes")
        assert {*reasons} == {
            *("version", "objects", "addons", "components", "workloads", "queue", "groups", "metrics", "admission"),
            "join_tokens",
        }
        assert all("was not asked again" in reason for reason in reasons.values())
    assert len(asked) == 2


def test_a_question_that_fails_at_once_keeps_no_other_one_back(asked, tmp_path, monkeypatch):
    own_clock(monkeypatch, kubernetes, monotonic=lambda: 0.0)
    with_metrics_server(tmp_path)

    found = kubernetes.cluster(str(tmp_path))

    assert found is not None
    assert all(SLOW in value["unknown"] for value in found.values())
    assert len(asked) == 8


def test_a_node_lists_what_it_lacks():
    conditions = {"Ready": "True", "DiskPressure": "True", "MemoryPressure": "False", "PIDPressure": "Unknown"}
    item = {
        "metadata": {"name": "aspen"},
        "spec": {},
        "status": {
            "conditions": [{"type": name, "status": status} for name, status in conditions.items()],
            "nodeInfo": {"kubeletVersion": "v1.37.2"},
        },
    }

    assert kubernetes.state(item)["pressure"] == ["DiskPressure"]
    assert kubernetes.state({**item, "status": {**item["status"], "conditions": []}})["pressure"] == []


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ({}, "KeyError"),
        ({"nodeInfo": {}}, "KeyError"),
        ({"nodeInfo": {"kubeletVersion": "v1.37.2"}, "conditions": [{"status": "True"}]}, "KeyError"),
        ({"nodeInfo": {"kubeletVersion": "x" * 1_000_000}}, "64 KiB"),
    ],
)
def test_a_node_hides_no_other_node_by_its_status(status, reason):
    """
    Its kubelet writes the status.
    """
    good = {"nodeInfo": {"kubeletVersion": "v1.37.2"}, "conditions": [{"type": "Ready", "status": "True"}]}
    items = [{"metadata": {"name": name}, "spec": {}, "status": each} for name, each in [("w1", status), ("w2", good)]]
    found = kubernetes.states(items)
    assert reason in found["w1"]["unknown"] and found["w2"]["ready"] is True


def test_the_message_of_a_node_is_bounded():
    ready = {"type": "Ready", "status": "False", "message": "x" * 1_000_000}
    status = {"nodeInfo": {"kubeletVersion": "v1.37.2"}, "conditions": [ready]}
    found = kubernetes.states([{"metadata": {"name": "w1"}, "spec": {}, "status": status}])
    assert found["w1"]["reason"] == "x" * kubernetes.MESSAGE_LENGTH


def static(name: str, node: str, labels: dict[str, str], containers: int = 1) -> dict[str, Any]:
    command = ["kube-apiserver", "--enable-admission-plugins=NodeRestriction"]
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": {"nodeName": node, "containers": [{"command": command}] * containers},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    }


API_LABELS = {"tier": "control-plane", "component": "kube-apiserver"}


@pytest.mark.parametrize(
    "pod",
    [
        static("kube-apiserver-w1", "w1", API_LABELS),
        static("kube-apiserver-w1", "w1", API_LABELS, containers=2),
        static("kube-apiserver-w1", "w1", API_LABELS, containers=0),
        static("kube-apiserver-cp-01", "w1", API_LABELS),
        static("x", "w1", {"tier": "control-plane"}),
        static("x", "w1", {}),
        {"metadata": {"name": "x"}, "spec": {}},
    ],
    ids=["copy", "two containers", "none", "name of another", "no component", "no labels", "nothing"],
)
def test_a_pod_of_a_worker_says_nothing_about_the_control_plane(monkeypatch, pod):
    """
    A kubelet shows pods of its own with any labels.
    """
    pods = [static("kube-apiserver-cp-01", "cp-01", API_LABELS), pod]

    def query(*argv: str) -> Any:
        return {"items": [{"metadata": {"name": "cp-01"}}] if "nodes" in argv else pods}

    monkeypatch.setattr(kubernetes, "query", query)
    assert kubernetes.admission() == {"cp-01": ["NodeRestriction"]}
    assert kubernetes.components() == {"kube-apiserver": ["cp-01"]}


def test_jobs_in_the_queue_of_a_team_have_a_bound(monkeypatch):
    """
    A team may have many jobs, and a host's facts are refused as a whole when they are too large.
    """
    owner = [{"kind": "JobSet", "name": "x" * 250}]
    entries = [
        {
            "metadata": {"namespace": team, "ownerReferences": [{**owner[0], "name": f"{'x' * 240}{number}"}],
                         "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"queueName": "y" * 250},
            "status": {"conditions": [{"type": "QuotaReserved", "status": "False", "message": "m" * 5000}]},
        }
        for team, count in (("speech", 10_000), ("vision", 1))
        for number in range(count)
    ]  # fmt: skip
    monkeypatch.setattr(kubernetes, "controllers", lambda *argv: {})
    monkeypatch.setattr(kubernetes, "list_objects", lambda lists: iter(entries))
    jobs = kubernetes.queue("")["jobs"]
    unknown = [name for name, value in jobs.items() if "unknown" in value]
    assert len(json.dumps(jobs)) < 3 * kubernetes.NAMESPACE_BYTES
    assert unknown and all(name.startswith("speech/") for name in unknown)


def job(namespace: str, name: str, size: int = 0) -> dict[str, Any]:
    spec = {"template": {"spec": {"containers": [{"env": [{"name": "A", "value": "0" * size}]}]}}}
    return {"kind": "Job", "metadata": {"namespace": namespace, "name": name, "generation": 1}, "spec": spec}


def test_a_large_object_of_a_team_is_unknown_alone():
    found = kubernetes.bound_objects(
        [job("speech", "large", kubernetes.OBJECT_BYTES), job("speech", "x"), job("vision", "x")]
    )

    facts = ClusterFacts({"workloads": found}, "kubernetes_cluster")
    with pytest.raises(UnknownFact, match="larger than 128 KiB"):
        facts.workload("speech/Job/large")
    assert facts.workload("speech/Job/x") and facts.workload("vision/Job/x")
    assert [type(each) for each in facts.workloads_of("vision")] == [WorkloadObject]


def test_a_team_with_many_objects_hides_none_of_another_team():
    several = [job("speech", f"x{number}", 100_000) for number in range(200)]
    found = kubernetes.bound_objects([*several, job("vision", "x")])

    unknown = [name for name, value in found.items() if "unknown" in value]
    assert len(json.dumps(found)) < kubernetes.NAMESPACE_BYTES + (1 << 20)
    assert unknown and all(name.startswith("speech/") for name in unknown) and len(found) == 201


def test_the_largest_namespaces_are_left_out_first():
    several = [job(f"team-{number}", f"x{index}", 100_000) for number in range(8) for index in range(30 + number)]
    found = kubernetes.bound_objects([*several, job("vision", "x")])

    assert len(json.dumps(found)) < kubernetes.WORKLOAD_BYTES + (1 << 20)
    assert "unknown" not in found["vision/Job/x"] and "unknown" not in found["team-0/Job/x0"]
    assert "all namespaces" in found["team-7/Job/x0"]["unknown"]


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "JobSet", "spec": {"replicatedJobs": [{"name": "x", "template": {"spec": {}}}]}},
        {"status": {"conditions": [{"type": "Complete"}]}},
        {"status": {"conditions": "x"}},
    ],
    ids=["completions", "condition", "conditions"],
)
def test_an_object_of_another_form_is_unknown_alone(change):
    """An operator leaves out what rackwright's own objects always have."""
    odd = {**job("speech", "odd"), **change}
    found = kubernetes.bound_objects([odd, job("vision", "x")])

    assert "unknown" in found[kubernetes.name_of(odd)] and "unknown" not in found["vision/Job/x"]


def test_a_page_that_is_too_large_is_asked_again_in_parts(monkeypatch):
    """No answer is kept whole that is larger than the output of a program may be."""
    items = [job("speech", f"x{number}") for number in range(230)]
    limits = []

    def ask(*argv: str) -> str:
        assert argv[:2] == ("get", "--raw")
        asked = parse_qs(urlsplit(argv[2]).query)
        start, limit = int(asked.get("continue", ["0"])[0]), int(asked["limit"][0])
        limits.append(limit)
        if limit > 30:
            raise OutputTooLarge("kubectl printed more than 32 MiB")
        more = {"continue": str(start + limit)} if start + limit < len(items) else {}
        return json.dumps({"metadata": more, "items": items[start : start + limit]})

    monkeypatch.setattr(kubernetes.API, "ask", ask)
    found = [*kubernetes.list_objects({"Job": "/apis/batch/v1/jobs"}, kubernetes.MANAGED_BY)]

    assert [each["metadata"]["name"] for each in found] == [each["metadata"]["name"] for each in items]
    assert limits[:3] == [100, 50, 25] and {*limits[3:]} == {25}
