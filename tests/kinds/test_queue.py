"""The queue of a cluster: its controllers, the queues of teams, and runs that wait in them."""

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import pytest

from rackwright.core import diff as comparison
from rackwright.core.contract import Command, Put
from rackwright.facts.facts import Facts
from rackwright.facts.kubernetes import ClusterFacts
from rackwright.facts.probe import kubernetes as probe
from rackwright.kinds.cluster import ClusterKind, ClusterSpec, controllers, queue
from rackwright.kinds.cluster.team import TeamPart, content, objects
from rackwright.kinds.pods import PodsKind, roll_out
from rackwright.kinds.pods.report import of_cluster, outcome
from rackwright.schema.cluster import BorrowingLimits, Team
from rackwright.schema.units import Size
from rackwright.stack.clusters import clusters, role_variables
from tests.support import queue_objects
from tests.support.own_clock import own_clock
from tests.support.pod_workloads import IDENTITY, REPOSITORY, TRAINING, made, spec_of
from tests.support.queue_objects import SERVICE, entry
from tests.support.recorded_hosts import CLUSTERED, RESOURCES, STACK, recorded

TEAM = Team(cpus=4, memory=Size("8GiB"), gpus=2, borrows=BorrowingLimits(cpus=2, gpus=1), operators=("operators",))
PART = TeamPart(name="vision", declared=TEAM, cohort="main")
CLUSTER = RESOURCES["birch/cluster"]
SPEC = CLUSTER.spec.model_copy(update={"teams": (PART,), "queue": True})
QUEUED = TRAINING.model_copy(update={"queue": True})
JOB = "vision/JobSet/digits"


def facts_of(items: list[dict[str, Any]], *entries: dict[str, Any]) -> dict[str, Any]:
    """Return the facts that the probe makes of objects of controllers and of *entries* of Kueue."""

    def query(*argv: str) -> Any:
        [namespace] = [each.partition("=")[2] for each in argv if each.startswith("--namespace=")] or [None]
        return {"items": [each for each in items if each["metadata"].get("namespace") == namespace]}

    answer = patch.object(probe, "query", query)
    with answer, patch.object(probe, "list_objects", lambda paths: iter(entries)), queue_objects.manifests():
        found: dict[str, Any] = json.loads(json.dumps(probe.queue("")))
    return found


def cluster_facts(queue_facts: Any) -> Facts:
    raw = recorded("birch")
    stored = {name: content(item) for name, item in objects((PART,), ("birch",)).items()}
    raw["kubernetes_cluster"] |= {"queue": queue_facts, "objects": stored}
    return Facts(raw)


def differences(facts: Facts) -> tuple[Any, ...]:
    claims = ClusterKind().claims(SPEC, STACK.repository)
    return tuple(comparison.diff(claims, ClusterKind().observe(claims, facts)))


def test_a_team_has_its_quota_and_may_borrow_what_is_declared():
    """
    The quota of the namespace is the sum: it would refuse pods of what was borrowed.
    """
    found = objects((PART,))
    [group] = found["ClusterQueue/vision"]["spec"]["resourceGroups"]
    quotas = {each["name"]: (each["nominalQuota"], each["borrowingLimit"]) for each in group["flavors"][0]["resources"]}

    assert quotas == {
        "cpu": ("4", "2"),
        "memory": ("8Gi", "0"),
        "nvidia.com/gpu": ("2", "1"),
        "ephemeral-storage": ("2000Gi", "0"),
        "pods": ("100", "0"),
    }
    assert group["coveredResources"] == [*quotas]
    assert found["ClusterQueue/vision"]["spec"]["cohortName"] == "main"
    hard = found["vision/ResourceQuota/team"]["spec"]["hard"]
    assert (hard["requests.cpu"], hard["requests.nvidia.com/gpu"], hard["requests.memory"]) == ("6", "3", "8Gi")
    assert found["vision/LocalQueue/team"]["spec"]["clusterQueue"] == "vision"


def test_people_of_a_team_look_at_its_queue_and_only_operators_change_its_job_sets():
    rules = {name: objects((PART,))[f"vision/Role/{name}"]["rules"] for name in ("operator", "viewer")}

    def verbs(function: str, resource: str) -> set[str]:
        return {verb for rule in rules[function] if resource in rule["resources"] for verb in rule["verbs"]}

    assert "create" in verbs("operator", "jobsets") and "create" not in verbs("viewer", "jobsets")
    assert verbs("operator", "workloads") == verbs("viewer", "workloads") == {"get", "list", "watch"}


def test_a_cluster_without_a_queue_has_nothing_of_it():
    found = objects((PART.model_copy(update={"cohort": None}),))
    assert not any(each["kind"] in queue.KINDS for each in found.values())
    admission = ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
    assert not any("kueue" in json.dumps(each) for each in found.values() if each["kind"] not in admission)


def test_controllers_as_they_were_set_are_no_difference():
    """
    Kueue itself writes its certificates into objects, and status is no change by hand.
    """
    assert differences(cluster_facts(facts_of(queue_objects.controllers()))) == ()


@pytest.mark.parametrize(
    ("changes", "path", "replaced"),
    [
        (
            {"spec": {"externalIPs": ["192.0.2.1"]}},
            SERVICE,
            True,
        ),
        ({"kind": "Endpoints"}, SERVICE, False),
    ],
    ids=["changed", "missing"],
)
def test_each_object_of_the_controllers_can_differ(changes, path, replaced):
    """
    All objects are applied; one that is there is replaced too, so that nothing that was added stays.
    """
    facts = cluster_facts(facts_of(queue_objects.controllers(**changes)))
    found = differences(facts)
    plan = ClusterKind().plan(SPEC, found, facts, STACK.repository)

    assert [item.path for item in found] == [f"{controllers.QUEUE.thing}.{path}"]
    assert plan.by_hand == ()
    [step] = plan.steps
    assert isinstance(step, Command) and (SERVICE in step.argv) == replaced


@pytest.mark.parametrize("name", ["rackwright", "kube-controller-manager", "kueue", "lws", "kubectl-edit"])
def test_a_changed_object_differs_whatever_name_the_editor_gave(name):
    """The annotation with the digest stays, and `kubectl edit --field-manager` takes any name."""
    items = queue_objects.controllers()
    [role] = [each for each in items if each["metadata"]["name"] == "kueue-manager-role"]
    role["rules"] = [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]
    role["metadata"]["managedFields"] = [{"manager": name}]
    [found] = differences(cluster_facts(facts_of(items)))
    assert found.path == f"{controllers.QUEUE.thing}.ClusterRole/kueue-manager-role"


def test_another_team_cannot_make_the_controllers_differ_by_a_label():
    """A deployment without pods, with the label of the queue, in the namespace of a team."""
    items = queue_objects.controllers()
    labels = {probe.PART_OF: controllers.QUEUE.name}
    foreign = {"kind": "Deployment", "metadata": {"name": "x", "namespace": "speech", "labels": labels}, "status": {}}
    facts = cluster_facts(facts_of([*items, foreign]))
    assert differences(facts) == ()
    assert "speech/Deployment/x" not in facts._raw["kubernetes_cluster"]["queue"]["objects"]


def test_a_cluster_that_gets_a_queue_installs_it_before_the_queues_of_teams():
    facts = cluster_facts(None)
    del facts._raw["kubernetes_cluster"]["objects"]["ClusterQueue/vision"]
    found = differences(facts)
    plan = ClusterKind().plan(SPEC, found, facts, STACK.repository)
    texts = [step.text for step in plan.steps]

    assert "Kueue" in texts[0] and "ClusterQueue/vision" in texts[-1]
    assert plan.by_hand == ()


def test_controllers_that_do_not_run_are_started_again():
    items = queue_objects.controllers()
    deployment = next(each for each in items if each["kind"] == "Deployment")
    deployment["status"] = {}
    assert [item.path for item in differences(cluster_facts(facts_of(items)))] == [f"{controllers.QUEUE.thing}.ready"]


def test_a_queue_with_work_is_never_deleted_to_set_it_again():
    """
    Other objects are deleted and created where a field cannot be changed.
    """
    facts = cluster_facts(facts_of(queue_objects.controllers()))
    facts._raw["kubernetes_cluster"]["objects"]["ClusterQueue/vision"]["spec"]["stopPolicy"] = "Hold"
    plan = ClusterKind().plan(SPEC, differences(facts), facts, STACK.repository)
    kept, others = (step.content for step in plan.steps if isinstance(step, Put))
    assert [each["kind"] for each in json.loads(str(kept))["items"]] == ["ClusterQueue"] and not others


# --- runs


def run_facts(*entries: dict[str, Any], suspended: bool = True, **status: Any) -> ClusterFacts:
    """Return the facts of a cluster with the objects of QUEUED."""
    workloads = {
        name: {
            "spec": {**each["spec"]},
            "labels": each["metadata"]["labels"],
            "generation": 1,
            "managers": ["rackwright"],
            "status": {},
            "conditions": {},
        }
        for name, each in made(QUEUED).items()
    }
    workloads[JOB]["spec"]["suspend"] = suspended
    workloads[JOB] |= status
    return ClusterFacts(
        {"workloads": workloads, "queue": facts_of([], *entries), "version": "v1.37.2"}, "kubernetes_cluster"
    )


def test_a_run_with_a_queue_is_one_set_of_jobs():
    """
    Kueue admits one object as a whole; two jobs could each hold what the other one needs.
    """
    found = made(QUEUED)
    jobs = [each for each in found.values() if each["kind"] in ("Job", "JobSet")]
    [job] = jobs
    parts = {each["name"]: each["template"]["spec"] for each in job["spec"]["replicatedJobs"]}
    plain = {each["metadata"]["name"]: each["spec"] for each in made(TRAINING).values() if each["kind"] == "Job"}

    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team"
    assert {*parts} == {"launcher", "worker"}
    for name, spec in parts.items():
        assert spec["completions"] == plain[f"digits-{name}"]["completions"]
        assert "suspend" not in spec
    # values without which JobSet's controller would fail, if its webhook did not set them
    assert job["spec"]["successPolicy"]["operator"] == "All" and job["spec"]["startupPolicy"]
    assert QUEUED.pod_names == ("digits-launcher-0-0", "digits-worker-0-0")
    assert TRAINING.pod_names == ("digits-launcher-0", "digits-worker-0")


@pytest.mark.parametrize(
    ("cluster", "state"),
    [
        (run_facts(entry("digits")), "queued"),
        (run_facts(entry("digits", active=False)), "stopped"),
        (run_facts(), "stopped"),
        (run_facts(entry("digits"), suspended=False), "running"),
        (run_facts(entry("digits"), conditions={"Completed": ""}), "finished"),
        (run_facts(entry("digits"), conditions={"Failed": ""}), "failed"),
    ],
    ids=["queued", "stopped", "unknown to Kueue", "running", "finished", "failed"],
)
def test_the_state_of_a_queued_run(cluster, state):
    assert outcome(cluster, "vision", "run", "digits") == state


def test_a_queued_run_has_its_place_and_the_reason_why_it_waits():
    """
    One with a higher priority comes first, then the older one; those that run, have ended or are stopped do not wait.
    """
    reserved = {"QuotaReserved": ("True", "QuotaReserved", ""), "Admitted": ("True", "Admitted", "")}
    cluster = run_facts(
        entry("digits"),
        entry("older", since="2026-11-29T10:00:00Z"),
        entry("urgent", since="2026-11-29T13:00:00Z", priority=100_000),
        entry("runs", since="2026-11-29T09:00:00Z", conditions=reserved),
        entry("over", since="2026-11-29T09:00:00Z", conditions={"Finished": ("True", "Succeeded", "")}),
        entry("stopped", since="2026-11-29T09:00:00Z", active=False),
        entry("other", since="2026-11-29T09:00:00Z", queueName="another"),
    )
    assert cluster.queue is not None
    assert [cluster.queue.place(f"vision/JobSet/{name}") for name in ("urgent", "older", "digits", "runs")] == [
        1, 2, 3, None,
    ]  # fmt: skip
    report = of_cluster(spec_of(QUEUED), Facts({"kubernetes_cluster": cluster._raw}))
    assert report["outcome"] == "queued" and report["place"] == 3 and "insufficient" in report["why"]


def test_a_run_that_did_not_start_in_time_waits_behind_the_others():
    evicted = {"Evicted": ("True", "PodsReadyTimeout", "")}
    cluster = run_facts(
        entry("digits", since="2026-11-29T10:00:00Z", conditions=evicted), entry("other", since="2026-11-29T11:00:00Z")
    )
    assert cluster.queue is not None
    assert cluster.queue.place(JOB) == 2


def test_pods_of_a_job_set_are_counted_where_all_pods_of_a_job_are_ready():
    """
    Source: JobSet 0.12.0, whose status counts jobs.
    """
    job = made(QUEUED.model_copy(update={"count": 3}))[JOB]
    states = [{"name": "launcher", "ready": 0}, {"name": "worker", "ready": 1}]
    item = {**job, "status": {"replicatedJobsStatus": states, "restarts": 0}}
    assert probe.workload(item)["status"] == {"ready": 2, "restarts": 0}
    assert probe.workload({**job, "status": {}})["status"] == {"ready": 0}


def test_a_queued_run_is_as_declared_and_a_stopped_one_is_not():
    claims = PodsKind().claims(spec_of(QUEUED), REPOSITORY)
    for entries, paths in (([entry("digits")], []), ([entry("digits", active=False)], ["outcome"])):
        facts = Facts({"identity": IDENTITY, "kubernetes_cluster": run_facts(*entries)._raw})
        found = comparison.diff(claims, PodsKind().observe(claims, facts))
        assert [item.name for item in found] == paths


def test_jobs_from_before_the_queue_end():
    """
    They would run beside the job set, and write the same checkpoints.
    """
    cluster = run_facts(entry("digits"))
    for name, each in made(TRAINING).items():
        if each["kind"] == "Job":
            stored = {"labels": each["metadata"]["labels"], "conditions": {}, "spec": {}, "status": {}}
            cluster._raw["workloads"][name] = {**stored, "managers": [], "generation": 1}
    del cluster._raw["workloads"][JOB]
    facts = Facts({"identity": IDENTITY, "kubernetes_cluster": cluster._raw})
    claims = PodsKind().claims(spec_of(QUEUED), REPOSITORY)
    found = comparison.diff(claims, PodsKind().observe(claims, facts))
    plan = PodsKind().plan(spec_of(QUEUED), tuple(found), facts, REPOSITORY)
    [text] = [step.content for step in plan.steps if isinstance(step, Put)]
    assert sorted(json.loads(str(text))["ending"]) == ["Job/digits-launcher", "Job/digits-worker"]


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return the job set and the entry of Kueue that the program finds, and all calls of kubectl."""
    job = {**made(QUEUED)[JOB], "status": {}}
    job["metadata"] = {**job["metadata"], "uid": "1"}
    job["spec"] = {**job["spec"], "suspend": True}
    content: dict[str, Any] = {"job": job, "entry": {"kind": "Workload", **entry("digits")}, "calls": []}
    content["entry"]["metadata"]["name"] = "jobset-digits-1"

    def kubectl(*argv: str, **more: Any) -> str:
        content["calls"].append(argv)
        return json.dumps({"items": [content["entry"]]}) if "workloads.kueue.x-k8s.io" in argv else ""

    clock = iter(range(0, 10_000, 7))
    monkeypatch.setattr(roll_out, "kubectl", kubectl)
    monkeypatch.setattr(roll_out, "actual_object", lambda item: content["job"])
    monkeypatch.setattr(roll_out, "pods", lambda item: ())
    own_clock(monkeypatch, roll_out, monotonic=lambda: next(clock))
    own_clock(monkeypatch, roll_out, sleep=lambda seconds: None)
    return content


def test_a_run_without_room_is_left_in_its_queue(api, capsys):
    roll_out.start([made(QUEUED)[JOB]], 900)
    assert "digits is queued, and starts by itself: insufficient unused quota" in capsys.readouterr().out


def test_a_run_with_room_is_awaited_until_all_of_its_pods_run(api, monkeypatch, capsys):
    statuses: list[Mapping[str, Any]] = [
        {"replicatedJobsStatus": [{"ready": ready, "succeeded": 0}, {"ready": 1, "succeeded": 0}]} for ready in (0, 1)
    ]
    api["job"] = {**api["job"], "spec": {**api["job"]["spec"], "suspend": False}, "status": statuses[0]}
    looked = iter((api["job"], api["job"], {**api["job"], "status": statuses[1]}))
    monkeypatch.setattr(roll_out, "actual_object", lambda item: next(looked))
    roll_out.start([made(QUEUED)[JOB]], 900)
    assert next(looked, None) is None and capsys.readouterr().out == ""


def test_a_stopped_run_comes_back_into_its_queue(api):
    """
    Kueue suspends a job set again whose entry is not active.
    """
    api["entry"]["spec"]["active"] = False
    roll_out.put_job(made(QUEUED)[JOB], api["job"])
    assert ("patch", "workloads.kueue.x-k8s.io", "jobset-digits-1") in [call[:3] for call in api["calls"]]


def test_control_planes_of_a_cluster_with_a_queue_have_its_images():
    cluster = CLUSTERED.fleet.clusters["main"].model_copy(update={"queue": True})
    stack = replace(CLUSTERED, fleet=CLUSTERED.fleet.model_copy(update={"clusters": {"main": cluster}}))

    assert role_variables(stack, "birch", "kubernetes_control_plane") == {"queue": True}
    assert role_variables(CLUSTERED, "birch", "kubernetes_control_plane") == {}
    assert "queue" not in role_variables(stack, "aspen", "kubernetes_node")
    [spec] = [each.spec for each in clusters(stack) if isinstance(each.spec, ClusterSpec)]
    assert spec.queue


# --- other controllers


@pytest.mark.parametrize("several", [controllers.GROUPS, controllers.METRICS], ids=lambda each: each.name)
def test_other_controllers_are_claimed_and_set_in_the_same_way(several):
    spec = CLUSTER.spec.model_copy(update={several.name: True})
    objects = {
        name: {"content": digest, "managers": ["rackwright"]} for name, digest in controllers.digests(several).items()
    }
    found = {several.name: {"ready": True, "objects": objects}}

    def plan_of(state):
        raw = recorded("birch")
        raw["kubernetes_cluster"] |= state
        claims = [each for each in ClusterKind().claims(spec, STACK.repository) if each.thing == several.thing]
        found = tuple(comparison.diff(claims, ClusterKind().observe(claims, Facts(raw))))
        return found, ClusterKind().plan(spec, found, Facts(raw), STACK.repository)

    assert plan_of(found)[0] == ()
    name = next(iter(objects))
    objects[name] = {**objects[name], "content": "0123456789abcdef"}
    [difference], plan = plan_of(found)
    assert difference.path == f"{several.thing}.{name}"
    [step] = plan.steps
    assert isinstance(step, Command) and step.argv[5:] == (several.name, several.check, *several.namespaces, name)
    differences, plan = plan_of({several.name: None})
    assert len(differences) == len(objects) + 1 and len(plan.steps) == 1


@pytest.mark.parametrize(
    ("name", "groups", "waits"),
    [("metrics", "cpu memory", True), ("metrics", "cpu", False), ("metrics", None, False), ("queue", None, True)],
)
def test_metrics_server_is_waited_for_where_memory_can_be_measured(tmp_path, name, groups, waits):
    """
    A computer with control groups of version 1 gives the containers of a twin no controllers.
    """
    manifests = tmp_path / f"share/kubernetes-{name}"
    manifests.mkdir(parents=True)
    (tmp_path / "cgroup").mkdir()
    if groups:
        (tmp_path / "cgroup/cgroup.controllers").write_text(groups)
    (tmp_path / "kubectl").write_text('#!/bin/sh\necho "$@" >> "$CALLS"\n')
    (tmp_path / "kubectl").chmod(0o755)
    script = controllers._SET.replace("/usr/share", f"{tmp_path}/share").replace("/sys/fs/cgroup", f"{tmp_path}/cgroup")
    script = script.replace("/run/", f"{tmp_path}/")
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "CALLS": str(tmp_path / "calls")}

    done = subprocess.run(["sh", "-c", script, "sh", "1", name, "/apis", "one"], env=environment, text=True)

    assert done.returncode == 0
    assert ("rollout status" in (tmp_path / "calls").read_text()) == waits


def test_the_probe_reads_the_controllers_whose_groups_the_api_serves(tmp_path):
    (tmp_path / "etc/kubernetes").mkdir(parents=True)
    (tmp_path / "etc/kubernetes/admin.conf").touch()
    for name in ("groups", "metrics"):
        package = tmp_path / f"usr/share/kubernetes-{name}"
        package.mkdir(parents=True)
        (package / "manifests.json").write_text('{"items": []}')
    with (
        patch.object(probe, "query", lambda *argv: {"items": [], "serverVersion": {"gitVersion": "v1"}}),
        patch.object(probe, "list_objects", lambda *argv: iter(())),
        patch.object(probe.API, "ask", lambda *argv: "apps/v1\nleaderworkerset.x-k8s.io/v1\n"),
    ):
        found = probe.cluster(str(tmp_path))
    assert found is not None
    assert found["queue"] is None
    assert found["groups"] == found["metrics"] == {"ready": False, "objects": {}}, (
        "the API lists no group of a silent one"
    )
