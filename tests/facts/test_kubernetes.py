"""The facts of a cluster when the API of its control plane does not answer."""

from pathlib import Path

import pytest

from rackwright.facts.probe import kubernetes
from rackwright.facts.probe.observe import ReadError

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
    monkeypatch.setattr(kubernetes.time, "monotonic", lambda: now[0])
    return questions


def test_an_api_that_keeps_the_probe_waiting_is_asked_once(asked, tmp_path):
    """All questions together would take longer than a look at a host may."""
    for _ in range(2):  # each look asks again
        found = kubernetes.cluster(str(tmp_path))
        assert found is not None
        reasons = {name: value["unknown"] for name, value in found.items()}

        assert SLOW in reasons.pop("nodes")
        assert {*reasons} == {
            *("version", "objects", "addons", "components", "workloads", "queue", "groups", "metrics", "admission"),
        }
        assert all("was not asked again" in reason for reason in reasons.values())
    assert len(asked) == 2


def test_a_question_that_fails_at_once_keeps_no_other_one_back(asked, tmp_path, monkeypatch):
    monkeypatch.setattr(kubernetes.time, "monotonic", lambda: 0.0)

    found = kubernetes.cluster(str(tmp_path))

    assert found is not None
    assert all(SLOW in value["unknown"] for value in found.values())
    assert len(asked) == 6


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
