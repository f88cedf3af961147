"""Replicas of several pods, and servers whose number of pods follows the load."""

import json
from dataclasses import replace
from typing import Any

import pytest

from rackwright.core import diff as comparison
from rackwright.core.contract import Put
from rackwright.kinds.pods import PodFilesKind, PodFilesSpec, PodsKind, roll_out
from rackwright.kinds.pods.release import files
from rackwright.kinds.pods.report import of_cluster, outcome
from rackwright.kinds.pods.spec import AutoscalePart, WorkloadPart
from tests.support.pod_objects import READY, differing, facts, pods_of
from tests.support.pod_workloads import GROUPED, IDENTITY, REPOSITORY, SERVING, made, spec_of


def groups_of(workload: WorkloadPart) -> dict[str, Any]:
    spec: dict[str, Any] = made(workload)[f"vision/LeaderWorkerSet/{workload.group_name}"]["spec"]
    return spec


def test_a_replica_of_several_pods_is_a_group_that_starts_as_a_whole():
    spec = groups_of(GROUPED)
    template = spec["leaderWorkerTemplate"]

    assert (spec["replicas"], template["size"], template["restartPolicy"]) == (2, 2, "RecreateGroupOnPodRestart")
    assert "vision/Deployment/racks" not in made(GROUPED)
    leader, worker = (template[f"{part}Template"]["spec"]["containers"][0] for part in ("leader", "worker"))
    assert leader["args"] == worker["args"]
    assert leader["args"][-6:] == [
        *("--port", "29500", "--interface", "eth0"),
        *("--key", "/var/lib/rackwright/pods/server-racks/keys/lease_key"),
    ]


def test_clients_reach_the_leader_once_it_has_the_model_and_no_worker():
    template = groups_of(GROUPED)["leaderWorkerTemplate"]
    leader, worker = (template[f"{part}Template"]["spec"]["containers"][0] for part in ("leader", "worker"))

    assert "readinessProbe" not in worker and "startupProbe" not in worker
    assert leader["startupProbe"]["httpGet"]["path"] == "/v2/models/racks/versions/0123456789ab/ready"
    selector = made(GROUPED)["vision/Service/racks"]["spec"]["selector"]
    assert selector == {"app": "racks", "leaderworkerset.sigs.k8s.io/worker-index": "0"}


@pytest.mark.parametrize(
    ("hosts", "expected"),
    [
        (4, {"maxSurge": 0, "maxUnavailable": 1}),
        (5, {"maxSurge": 0, "maxUnavailable": 1}),
        (6, {"maxSurge": 1, "maxUnavailable": 0}),
    ],
)
def test_a_rollout_of_groups_needs_spare_hosts_for_a_whole_group(hosts, expected):
    workload = GROUPED.model_copy(update={"hosts": tuple(f"host-{number}" for number in range(hosts))})
    found = groups_of(workload)["rolloutStrategy"]["rollingUpdateConfiguration"]
    assert found == {**expected, "partition": 0}


def test_pods_of_vllm_share_memory():
    for workload in (GROUPED, SERVING):
        assert workload.server is not None
        names = {volume["name"] for each in groups_pods(workload) for volume in each["volumes"]}
        assert ("shm" in names) == workload.server.vllm


def groups_pods(workload: WorkloadPart) -> list[Any]:
    if workload is SERVING:
        return pods_of(workload)
    template = groups_of(workload)["leaderWorkerTemplate"]
    return [template[f"{part}Template"]["spec"] for part in ("leader", "worker")]


def test_pods_of_groups_have_no_rights_either():
    for pod in groups_pods(GROUPED):
        assert pod["securityContext"]["runAsNonRoot"] and not pod["automountServiceAccountToken"]
        [container] = pod["containers"]
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert [each["mountPath"] for each in container["volumeMounts"] if not each.get("readOnly")] == ["/dev/shm"]


@pytest.mark.parametrize(("ready", "expected"), [(2, "ready"), (1, "not ready")])
def test_groups_are_ready_when_all_of_them_are(ready, expected):
    counts = {"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "readyReplicas": ready}
    found = facts(GROUPED, LeaderWorkerSet={"status": counts})
    assert found.cluster is not None
    assert outcome(found.cluster, "vision", "server", "racks") == expected
    report = of_cluster(spec_of(GROUPED), found)
    assert (report["pods_ready"], report["pods"], report["version"]) == (2 * ready, 4, "0123456789ab")


def test_a_server_that_gets_groups_ends_its_deployment():
    """
    Both would have the hosts, and the service of the groups would not reach the deployment.
    """
    single = GROUPED.model_copy(update={"server": SERVING.server})
    spec, found = spec_of(GROUPED), facts(single, **READY)
    claims = PodsKind().claims(spec, REPOSITORY)
    differences = comparison.diff(claims, PodsKind().observe(claims, found))
    put = PodsKind().plan(spec, differences, found, REPOSITORY).steps[0]

    assert isinstance(put, Put)
    assert json.loads(put.content)["ending"] == ["Deployment/racks"]


def test_the_key_of_a_replica_lies_where_pods_alone_may_look():
    spec = PodFilesSpec(host="oak", fleet="f", identity=IDENTITY, workload=GROUPED)
    repository = replace(REPOSITORY, secrets={"fleet_key": "0123456789abcdef" * 4})
    [key] = [each for each in files(spec, repository) if each.path.endswith("lease_key")]
    claims = {claim.thing: claim for claim in PodFilesKind().claims(spec, repository)}

    assert isinstance(key.content, str) and len(key.content) >= 32 and key.secret == "fleet_key"
    assert claims[f"directory:{GROUPED.keys}"].want == {"mode": "0750", "owner": "root:70000"}
    assert claims[f"file:{key.path}"].secret
    other = spec.model_copy(update={"workload": GROUPED.model_copy(update={"team": "speech"})})
    assert key.content not in [each.content for each in files(other, repository)]


# --- a server whose number of pods the cluster changes

SCALED = SERVING.model_copy(update={"autoscale": AutoscalePart(max=3, cpu_percent=60)})


def test_an_autoscaler_owns_the_number_of_pods():
    """
    Preview and audit would otherwise set the declared number again, each time the cluster has changed it.
    """
    scaler = made(SCALED)["vision/HorizontalPodAutoscaler/digits"]["spec"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (2, 3)
    assert scaler["metrics"][0]["resource"]["target"]["averageUtilization"] == 60
    assert "replicas" not in made(SCALED)["vision/Deployment/digits"]["spec"]
    found = facts(SCALED, **READY)
    deployment = found._raw["kubernetes_cluster"]["workloads"]["vision/Deployment/digits"]
    deployment["spec"]["replicas"] = 3
    deployment["status"] = {
        "observedGeneration": 1,
        **dict.fromkeys(("replicas", "updatedReplicas", "availableReplicas"), 3),
    }
    assert differing(SCALED, found) == []
    assert of_cluster(spec_of(SCALED), found)["pods"] == 3


def test_a_rollout_keeps_spare_hosts_for_its_largest_number_of_pods():
    strategy = made(SCALED)["vision/Deployment/digits"]["spec"]["strategy"]["rollingUpdate"]
    assert strategy == {"maxSurge": 0, "maxUnavailable": 1}


@pytest.mark.parametrize("replicas", [2, 3])
def test_an_autoscaler_that_is_declared_no_more_ends(replicas):
    found = facts(SCALED, **READY)
    found._raw["kubernetes_cluster"]["workloads"]["vision/Deployment/digits"]["spec"]["replicas"] = replicas
    spec = spec_of(SERVING)
    claims = PodsKind().claims(spec, REPOSITORY)
    differences = comparison.diff(claims, PodsKind().observe(claims, found))
    put = PodsKind().plan(spec, differences, found, REPOSITORY).steps[0]
    assert isinstance(put, Put)
    assert json.loads(put.content)["ending"] == ["HorizontalPodAutoscaler/digits"]


@pytest.mark.parametrize(("found", "expected"), [(None, 2), (3, 3), (1, 2), (9, 3)])
def test_a_rollout_keeps_the_number_of_pods_that_the_cluster_has_chosen(found, expected):
    before = None if found is None else {"spec": {"replicas": found}}
    assert roll_out.scaled_count([*made(SCALED).values()], before) == expected


# --- labels in the namespace of another team
