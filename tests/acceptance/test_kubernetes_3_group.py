"""Line 3: servers of which each replica has several pods, at the API of Kubernetes with its LeaderWorkerSet.

The API has no nodes. The test reports pods as ready in the place of a kubelet; vLLM runs in none of them.
"""

import os
import subprocess
from contextlib import AbstractContextManager
from typing import Any
from unittest.mock import patch

from rackwright.core import diff as comparison
from rackwright.facts.facts import Facts
from rackwright.facts.probe import kubernetes as probe
from rackwright.kinds.cluster import controllers
from rackwright.kinds.cluster.team import TeamPart
from rackwright.kinds.cluster.team import objects as team_objects
from rackwright.kinds.pods import PodsKind
from rackwright.kinds.pods.pods import _REMOVE
from rackwright.kinds.pods.spec import WorkloadPart
from rackwright.schema.cluster import Team
from rackwright.schema.units import Size
from rackwright.toolchain import kubernetes_controllers
from rackwright.toolchain.kubernetes_controllers import GROUPS, manifests
from tests.support.acceptance import line
from tests.support.api_tier import ApiTier, api_tier, kubelet, run_controller
from tests.support.expect import eventually, need
from tests.support.log import Log
from tests.support.pod_workloads import GROUPED, IDENTITY, REPOSITORY, made, spec_of

TEAM = TeamPart(name="vision", declared=Team(cpus=64, memory=Size("64GiB"), slice=1), cohort=None)
NAMESPACE = f"--namespace={TEAM.name}"
PODS = ("racks-replica-0", "racks-replica-0-1", "racks-replica-1", "racks-replica-1-1")
SECONDS = 120
SETTINGS = "{apiVersion: config.lws.x-k8s.io/v1alpha1, kind: Configuration}"


@line("kubernetes", 3, part="group")
def test_the_pods_of_a_replica_start_and_end_together(log: Log) -> str:
    """Two groups of two pods are made, compared, made again when one pod fails, taken back, and removed."""
    built = kubernetes_controllers.ensure_programs(GROUPS, log)
    items = kubernetes_controllers.read_objects(GROUPS, built)
    need(manifests.digests(items) == controllers.digests(controllers.GROUPS), "the claims have other digests")
    with api_tier(log, log.empty_directory()) as tier:
        log("starting LeaderWorkerSet")
        run_controller(tier, "lws", built / "lws", items, SETTINGS)
        tier.set(*team_objects((TEAM,)).values())
        try_it = ("create", "--dry-run=server", "--filename=-")
        eventually(
            lambda: tier.ask(*try_it, text=controllers.GROUPS.check, check=False), "the webhooks answer", SECONDS
        )
        log("rolling out")
        with _kubelet(tier, GROUPED):
            need(tier.roll_out(made(GROUPED).values(), SECONDS) == 0, "the groups do not get ready")
        _check_pods(tier)
        need(not (found := _differences(tier)), f"after the rollout differ {found}")
        edits = _edit(tier)
        _lose_a_pod(tier)
        _take_back(tier)
        _remove(tier)
    return (
        f"{len(PODS)} pods in two groups at an API without nodes; the service has the leaders alone; {len(edits)} edits"
        " by hand were found under their paths; a pod that started again took its group along, and the other group"
        " stayed; a release that was never ready was taken back"
    )


def _check_pods(tier: ApiTier) -> None:
    """Check the pods that the controller has made, and who answers clients."""
    pods = {pod["metadata"]["name"]: pod for pod in _pods(tier)}
    need(tuple(sorted(pods)) == PODS, f"the pods are {sorted(pods)}")
    for number, name in enumerate(PODS):
        [container] = pods[name]["spec"]["containers"]
        variables = {each["name"]: each.get("value") for each in container["env"]}
        leader = f"racks-replica-{number // 2}.racks-replica.{TEAM.name}"
        found = [variables.get(f"LWS_{each}") for each in ("LEADER_ADDRESS", "GROUP_SIZE", "WORKER_INDEX")]
        need(found == [leader, "2", str(number % 2)], f"{name} has {found}")
        need(("readinessProbe" in container) == (number % 2 == 0), f"{name} is asked as if it answered clients")
    need((found := _clients_reach(tier)) == {PODS[0], PODS[2]}, f"the service has {found}")
    budget = tier.read("poddisruptionbudget", "racks", NAMESPACE)["status"]
    need((budget["expectedPods"], budget["disruptionsAllowed"]) == (4, 1), f"the budget of disruptions is {budget}")


def _clients_reach(tier: ApiTier) -> set[str]:
    """Return the pods that the service selects."""
    selector = tier.read("service", "racks", NAMESPACE)["spec"]["selector"]
    labels = ",".join(f"{key}={value}" for key, value in selector.items())
    return {pod["metadata"]["name"] for pod in tier.read("pods", NAMESPACE, f"--selector={labels}")["items"]}


def _edit(tier: ApiTier) -> list[str]:
    """Change objects by hand, and return the paths that differ then; a rollout sets the objects again."""
    container = "/spec/leaderWorkerTemplate/leaderTemplate/spec/containers/0"
    more = f'[{{"op": "add", "path": "{container}/env/-", "value": {{"name": "MORE", "value": "1"}}}}]'
    leaders = '[{"op": "remove", "path": "/spec/selector/leaderworkerset.sigs.k8s.io~1worker-index"}]'
    for arguments in (
        ("leaderworkerset", "racks-replica", '--patch={"spec": {"replicas": 1}}', "--type=merge"),
        ("leaderworkerset", "racks-replica", f"--patch={more}", "--type=json"),
        ("service", "racks", f"--patch={leaders}", "--type=json"),
    ):
        tier.ask("patch", *arguments, NAMESPACE, "--field-manager=kubectl-edit")
    found = _differences(tier)
    groups, template = "object:vision/LeaderWorkerSet/racks-replica", "spec.leaderWorkerTemplate.leaderTemplate.spec"
    expected = {
        f"{groups}.spec.replicas",
        f"{groups}.{template}.containers[0].env.length",
        f"{groups}.undeclared",
        "object:vision/Service/racks.spec.selector.leaderworkerset.sigs.k8s.io/worker-index",
    }
    need({*found} - {"pods:vision/server/racks.outcome"} == expected, f"the edits differ at {found}")
    with _kubelet(tier, GROUPED):
        need(tier.roll_out(made(GROUPED).values(), SECONDS) == 0, "the groups do not get ready again")
    need(not (left := _differences(tier)), f"after the second rollout differ {left}")
    return sorted(expected)


def _lose_a_pod(tier: ApiTier) -> None:
    """Report that the container of a worker has started again, and wait for another group."""
    before = _uids(tier)
    tier.report(PODS[1], TEAM.name, "10.9.1.1", restarts=1)
    with _kubelet(tier, GROUPED):
        eventually(lambda: not {*_uids(tier).items()} & {*list(before.items())[:2]}, "the group is new", SECONDS)
        eventually(lambda: not _differences(tier), "the groups are ready again", SECONDS)
    need(list(_uids(tier).items())[2:] == list(before.items())[2:], "the other group did not stay")


def _take_back(tier: ApiTier) -> None:
    """Roll out a version whose pods are never ready."""
    assert GROUPED.server is not None
    wrong = GROUPED.model_copy(update={"server": GROUPED.server.model_copy(update={"version": "ba9876543210"})})
    with _kubelet(tier, GROUPED):
        need(tier.roll_out(made(wrong).values(), 40) == 4, "a release that is never ready was rolled out")
    version = tier.read("leaderworkerset", "racks-replica", NAMESPACE)["metadata"]["labels"]["rackwright.local/version"]
    need(version == GROUPED.server.version, f"the groups have version {version}")
    with _kubelet(tier, GROUPED):
        eventually(
            lambda: tuple(_uids(tier)) == PODS and not _differences(tier), "the previous release serves", SECONDS
        )


def _remove(tier: ApiTier) -> None:
    """Run the script of a removal, which leaves nothing."""
    script = _REMOVE.replace("/etc/kubernetes/admin.conf", str(tier.kubeconfig))
    argv = ("sh", "-c", script, "sh", "rackwright.local/server=racks", TEAM.name, "60")
    done = subprocess.run(argv, env={**os.environ, "PATH": f"{tier.built}:{os.environ['PATH']}"}, check=False)
    need(done.returncode == 0, "the removal failed")
    eventually(lambda: not _pods(tier), "all pods are gone", SECONDS)
    left = tier.read("all,leaderworkersets,persistentvolumeclaims", NAMESPACE)["items"]
    need(not left, f"left are {[each['metadata']['name'] for each in left]}")


def _differences(tier: ApiTier) -> list[str]:
    """Return the paths at which the API differs from the declaration, as audit prints them."""
    with patch.object(probe.API, "ask", tier.ask):
        cluster = {"workloads": probe.workloads(probe.api_groups())}
    facts = Facts({"identity": IDENTITY, "kubernetes_cluster": cluster})
    claims = PodsKind().claims(spec_of(GROUPED), REPOSITORY)
    need(not (changed := tier.changed_controllers(GROUPS.name)), f"objects of the controller differ: {changed}")
    return [item.path for item in comparison.diff(claims, PodsKind().observe(claims, facts))]


def _kubelet(tier: ApiTier, workload: WorkloadPart) -> AbstractContextManager[None]:
    """Report all pods with the version of *workload* as ready."""
    assert workload.server is not None
    return kubelet(tier, TEAM.name, f"models/{workload.server.version}")


def _pods(tier: ApiTier) -> list[dict[str, Any]]:
    pods: list[dict[str, Any]] = tier.read("pods", NAMESPACE)["items"]
    return pods


def _uids(tier: ApiTier) -> dict[str, str]:
    return {
        pod["metadata"]["name"]: pod["metadata"]["uid"]
        for pod in sorted(_pods(tier), key=lambda pod: pod["metadata"]["name"])
    }
