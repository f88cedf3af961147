"""The program that sets objects on the control plane: what it makes again, admission, and failing pods."""

import json
from typing import Any

import pytest

from rackwright.kinds.cluster.quantity import quantity
from rackwright.kinds.pods import roll_out
from tests.support.pod_workloads import GROUPED, RUN, SERVER, SERVING, TRAINING, made

LONGER = TRAINING.model_copy(update={"run": RUN.model_copy(update={"config": RUN.config.replace("10", "20")})})


@pytest.mark.parametrize(("made_again", "workload"), [([], TRAINING), (["Job", "Job"], LONGER)])
def test_only_another_configuration_makes_finished_jobs_again(monkeypatch, tmp_path, made_again, workload):
    """
    The other objects are set in both cases.
    """
    status = {"conditions": [{"type": "Complete", "status": "True"}], "ready": 2}
    before = {roll_out.name(each): {**each, "status": status} for each in made(TRAINING).values()}
    sent: list[tuple[str, str]] = []
    monkeypatch.setattr(roll_out, "actual_object", lambda item: before[roll_out.name(item)])
    monkeypatch.setattr(roll_out, "send", lambda verb, item: sent.append((verb, item["kind"])))
    monkeypatch.setattr(roll_out, "kubectl", lambda *argv, **more: "")
    path = tmp_path / "objects.json"
    path.write_text(json.dumps({"items": [*made(workload).values()], "ending": []}))

    assert roll_out.main(str(path), "1") == 0
    assert [kind for verb, kind in sent if verb == "create"] == made_again
    assert ("replace", "Service") in sent


def test_a_worker_that_waits_for_a_launcher_that_has_finished_is_suspended(monkeypatch, tmp_path):
    over = {"conditions": [{"type": "Complete", "status": "True"}]}
    before = {roll_out.name(each): {**each, "status": {"active": 1}} for each in made(TRAINING).values()}
    before["Job/digits-launcher"]["status"] = over
    sent: list[tuple[str, str]] = []
    patched: list[tuple[str, Any]] = []
    monkeypatch.setattr(roll_out, "actual_object", lambda item: before[roll_out.name(item)])
    monkeypatch.setattr(roll_out, "send", lambda verb, item: sent.append((verb, item["kind"])))
    monkeypatch.setattr(roll_out, "patch", lambda item, change: patched.append((roll_out.name(item), change)))
    path = tmp_path / "objects.json"
    path.write_text(json.dumps({"items": [*made(TRAINING).values()], "ending": []}))

    assert roll_out.main(str(path), "1") == 0
    assert patched == [("Job/digits-worker", {"spec": {"suspend": True}})]
    assert ("create", "Job") not in sent

    before["Job/digits-worker"]["status"] = over
    assert roll_out.main(str(path), "1") == 0
    assert len(patched) == 1


def node(name: str, cpus: str, ready: str = "True") -> dict[str, Any]:
    return {
        "metadata": {"name": name},
        "spec": {},
        "status": {"conditions": [{"type": "Ready", "status": ready}], "allocatable": {"cpu": cpus, "memory": "8Gi"}},
    }


def pod(on: str, cpus: str) -> dict[str, Any]:
    container = {"resources": {"requests": {"cpu": cpus, "memory": "1Gi"}}}
    return {"spec": {"nodeName": on, "containers": [container]}, "status": {"phase": "Running"}}


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Any]]:
    """Return what the API has, by the kind that kubectl asks for."""
    content: dict[str, list[Any]] = {
        "nodes": [node(name, "2") for name in ("oak", "elm", "ash")], "pods": [], "resourcequotas": [],
    }  # fmt: skip
    monkeypatch.setattr(roll_out, "kubectl", lambda verb, kind, *more: json.dumps({"items": content[kind]}))
    return content


JOBS = [each for each in made(TRAINING).values() if each["kind"] == "Job"]


def test_a_run_is_admitted_if_all_of_its_pods_fit(api):
    api["pods"] = [pod("oak", "1"), pod("elm", "1500m"), pod("ash", "0.5")]
    roll_out.admit(JOBS)


@pytest.mark.parametrize("full", [("oak",), ("elm", "ash")])
def test_a_run_of_which_a_part_does_not_fit_is_not_admitted(api, full):
    api["pods"] = [pod(name, "1500m") for name in full]
    with pytest.raises(roll_out.RollOutFailed, match="do not fit together"):
        roll_out.admit(JOBS)


def test_a_node_that_is_lost_or_cordoned_has_no_room(api):
    api["nodes"] = [
        node("oak", "2"),
        node("elm", "2", "Unknown"),
        {**node("ash", "2"), "spec": {"unschedulable": True}},
    ]
    with pytest.raises(roll_out.RollOutFailed, match="free on none"):
        roll_out.admit(JOBS)


@pytest.mark.parametrize("text", ["1E", "2Ei", "3P", "4Pi", "5n", "6u", "12e3", "7E2", "-1", ".5", "9" * 400, "0.1Ki"])
def test_each_form_of_a_quantity_is_read(text):
    """
    A node writes its own status, and a quota of a PiB has a unit of its own.
    """
    assert isinstance(roll_out.number(text), float)


@pytest.mark.parametrize("size", [1 << power for power in range(0, 61, 5)])
def test_each_quota_that_is_written_is_read(size):
    assert roll_out.number(quantity(size)) == size


@pytest.mark.parametrize(
    "status",
    [
        {"allocatable": {"example.com/x": "1E", "cpu": "8"}},
        {"allocatable": {"cpu": "x"}},
        {"allocatable": {"cpu": None}},
        {"allocatable": []},
        {"conditions": [{}]},
        {"conditions": None},
        {},
    ],
)
def test_the_report_of_one_node_keeps_no_run_on_others_back(api, status):
    """
    A run is admitted although another node of the cluster reports nonsense.
    """
    ready = [{"type": "Ready", "status": "True"}]
    api["nodes"].append({"metadata": {"name": "yew"}, "spec": {}, "status": {"conditions": ready, **status}})
    roll_out.admit(JOBS)


def test_a_quota_is_a_limit_too(api):
    api["resourcequotas"] = [{"status": {"hard": {"requests.cpu": "3"}, "used": {"requests.cpu": "1500m"}}}]
    with pytest.raises(roll_out.RollOutFailed, match=r"room for 1\.5 of requests\.cpu, and the run needs 2"):
        roll_out.admit(JOBS)


GPU_JOBS = [each for each in made(TRAINING.model_copy(update={"gpus": 2})).values() if each["kind"] == "Job"]


def test_each_container_asks_for_the_gpus_of_its_pod_alone():
    """
    Processes of one pod share their data through memory, which a drain would lose.
    """
    for job in GPU_JOBS:
        pod = job["spec"]["template"]["spec"]
        [container] = pod["containers"]
        assert container["resources"]["limits"]["nvidia.com/gpu"] == "2"
        assert container["resources"]["requests"] == container["resources"]["limits"]
        assert {"name": "shm", "emptyDir": {"medium": "Memory"}} in pod["volumes"]


@pytest.mark.parametrize(
    ("offered", "hard", "message"),
    [
        ({"oak": 2, "elm": 2}, "4", ""),
        (
            {"oak": 2, "elm": 1},
            "4",
            "do not fit together: 1 of them need cpu 1, memory 2.14748e\\+09, nvidia.com/gpu 2",
        ),
        ({"oak": 2, "elm": 2}, "3", "room for 3 of requests.nvidia.com/gpu, and the run needs 4"),
    ],
    ids=["both fit", "too few on the nodes", "too few in the quota"],
)
def test_gpus_are_counted_on_nodes_and_in_the_quota_of_the_team(api, offered, hard, message):
    """
    A node offers none until its device plugin has registered.
    """
    for each in api["nodes"]:
        each["status"]["allocatable"]["nvidia.com/gpu"] = str(offered.get(each["metadata"]["name"], 0))
    api["resourcequotas"] = [{"status": {"hard": {"requests.nvidia.com/gpu": hard}, "used": {}}}]
    if message:
        with pytest.raises(roll_out.RollOutFailed, match=message):
            roll_out.admit(GPU_JOBS)
    else:
        roll_out.admit(GPU_JOBS)


def test_a_failing_pod_of_a_refused_release_says_nothing_about_the_one_before_it(monkeypatch):
    """
    It is still there when the deployment has gone back.
    """
    [deployment] = [each for each in made(SERVING).values() if each["kind"] == "Deployment"]
    other = SERVING.model_copy(update={"server": SERVER.model_copy(update={"version": "ba9876543210", "settings": {}})})
    [refused] = [each for each in made(other).values() if each["kind"] == "Deployment"]
    state = {"name": "canary", "restartCount": 2, "ready": False, "state": {"waiting": {}}}
    status = {"initContainerStatuses": [{**state, "lastState": {"terminated": {"exitCode": 1}}}]}
    pod = {"metadata": {"name": "digits-1"}, "spec": refused["spec"]["template"]["spec"], "status": status}
    monkeypatch.setattr(roll_out, "pods", lambda item: iter([pod]))

    assert roll_out.crashing(refused) == "container canary of digits-1 ended with 1"
    assert roll_out.crashing(deployment) == ""


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({"replicas": 2, "updatedReplicas": 2, "readyReplicas": 2}, ""),
        ({"replicas": 2, "updatedReplicas": 2, "readyReplicas": 1}, "not all pods are ready after 0 s"),
        ({"replicas": 3, "updatedReplicas": 2, "readyReplicas": 3}, "not all pods are ready after 0 s"),
    ],
)
def test_groups_are_rolled_out_when_all_of_them_are_new_and_ready(monkeypatch, counts, expected):
    """
    Groups that are ready do not progress, which for a deployment means that it has failed.
    """
    [groups] = [each for each in made(GROUPED).values() if each["kind"] == "LeaderWorkerSet"]
    status = {
        **counts,
        "observedGeneration": 1,
        "conditions": [{"type": "Progressing", "status": "False", "message": "ready"}],
    }
    monkeypatch.setattr(roll_out, "actual_object", lambda item: {**groups, "status": status})
    monkeypatch.setattr(roll_out, "pods", lambda item: iter(()))
    monkeypatch.setattr(roll_out, "POLL_SECONDS", 0)

    assert roll_out.wait_for(groups, 0) == expected


def test_the_deployment_of_a_server_ends_before_its_groups_start(monkeypatch, tmp_path):
    """
    Its pods have the hosts.
    """
    done: list[str] = []
    monkeypatch.setattr(roll_out, "actual_object", lambda item: None)
    monkeypatch.setattr(roll_out, "send", lambda verb, item: done.append(f"{verb} {item['kind']}"))
    monkeypatch.setattr(roll_out, "kubectl", lambda *argv, **more: done.append(" ".join(argv[:2])) or "")
    monkeypatch.setattr(roll_out, "roll_out", lambda item, before, seconds: done.append(f"wait {item['kind']}"))
    path = tmp_path / "objects.json"
    path.write_text(json.dumps({"items": [*made(GROUPED).values()], "ending": ["Deployment/racks"]}))

    assert roll_out.main(str(path), "1") == 0
    assert done[0] == "delete Deployment/racks"
    assert done[-2:] == ["create LeaderWorkerSet", "wait LeaderWorkerSet"]


@pytest.mark.parametrize(("text", "value"), [("500m", 0.5), ("2", 2), ("4Gi", 4 << 30), ("1k", 1000)])
def test_quantities(text, value):
    assert roll_out.number(text) == value
