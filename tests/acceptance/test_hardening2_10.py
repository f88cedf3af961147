"""Line 10: labels that the operator of one team chooses hold nothing of another team up."""

import os
import subprocess
from typing import Any
from unittest.mock import patch

from rackwright.core import diff as comparison
from rackwright.core.contract import Command
from rackwright.facts.facts import Facts
from rackwright.facts.probe import kubernetes as probe
from rackwright.kinds.cluster.team import TeamPart
from rackwright.kinds.cluster.team import objects as team_objects
from rackwright.kinds.pods import PodsKind
from rackwright.schema.cluster import Team
from rackwright.schema.units import Size
from tests.support.acceptance import line
from tests.support.api_requests import ApiRequests
from tests.support.api_tier import ApiTier, api_tier
from tests.support.expect import eventually, need
from tests.support.log import Log
from tests.support.pod_workloads import IDENTITY, REPOSITORY, SERVING, TRAINING, made, spec_of
from tests.support.team_attacks import OTHER, TEAM, service, templates

SECONDS = 120
TEAMS = tuple(
    TeamPart(name=name, declared=Team(cpus=64, memory=Size("64GiB"), operators=(f"{name}-operators",)))
    for name in (TEAM, OTHER)
)
STRANGER = ("--as=mallory", f"--as-group={OTHER}-operators", "--as-group=system:authenticated")
MARKS = {
    "app.kubernetes.io/managed-by": "rackwright",
    "rackwright.local/fleet": "mine",
    "rackwright.local/server": "digits",
    "rackwright.local/run": "digits",
    "rackwright.local/part-of": "metrics",
    "app": "digits",
}
"""All labels by which rackwright selects something."""


@line("hardening2", 10)
def test_labels_in_the_namespace_of_another_team_stop_no_rollout_and_no_removal(log: Log) -> str:
    """An operator of one team gives its objects all labels of the run and the server of another team."""
    with api_tier(log, log.empty_directory()) as tier:
        requests = ApiRequests(tier.kubeconfig)
        tier.set(*team_objects(TEAMS).values())
        foreign = [_marked(item) for item in (service(), _budget(), _claim(), *templates())]
        for item in foreign:
            eventually(lambda item=item: not _refused(requests, item), f"{item['kind']} of the other team", SECONDS)
        log("plans with the labels of another team in the cluster")
        for workload in (TRAINING, SERVING):
            tier.set(*made(workload).values())
            facts = _facts(tier)
            own = (
                [name for name in facts.cluster.workload_objects if name.startswith(f"{OTHER}/")]
                if facts.cluster
                else []
            )
            need(len(own) >= 4, f"the probe sees {own} of the other team: the test shows nothing")
            kind, spec = PodsKind(), spec_of(workload)
            claims = kind.claims(spec, REPOSITORY)
            plan = kind.plan(spec, tuple(comparison.diff(claims, kind.observe(claims, facts))), facts, REPOSITORY)
            need(not plan.refusals, f"{workload.sort}: {plan.refusals}")
            removal = kind.removal(spec, facts, REPOSITORY, True)
            need(bool(removal.steps) and not removal.refusals, f"{workload.sort}: {removal.refusals}")
            _run(tier, removal.steps[0])
        left = {f"{item['kind']}" for item in foreign if not _exists(tier, item)}
        need(not left, f"the removal of {TEAM} deleted {left} of {OTHER}")
        gone = tier.read("all,persistentvolumeclaims", f"--namespace={TEAM}")["items"]
        need(not [each for each in gone if each["kind"] not in ("Pod", "ReplicaSet")], "something of the team is left")
        log("volumes of a run of the same name in both teams")
        both = [TRAINING, TRAINING.model_copy(update={"team": OTHER})]
        for workload in both:
            tier.set(*(each for each in made(workload).values() if each["kind"].startswith("PersistentVolume")))
        [step] = PodsKind().removal(spec_of(TRAINING), _facts(tier), REPOSITORY, True).steps
        _run(tier, step)
        kept = [each["spec"]["claimRef"]["namespace"] for each in tier.read("persistentvolumes")["items"]]
        volumes = len([each for each in made(TRAINING).values() if each["kind"] == "PersistentVolume"])
        need(kept == [OTHER] * volumes, f"left are volumes of {kept}")
    cases = len(foreign) * len(both) + volumes
    return (
        f"{cases} cases: {len(foreign)} kinds of objects with {len(MARKS)} labels stopped nothing, and none was deleted"
    )


def _marked(item: dict[str, Any]) -> dict[str, Any]:
    metadata = {**item["metadata"], "namespace": OTHER, "labels": MARKS}
    return {**item, "metadata": metadata}


def _budget() -> dict[str, Any]:
    spec = {"maxUnavailable": 0, "selector": {"matchLabels": {"app": "digits"}}}
    return {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "x"}, "spec": spec}


def _claim() -> dict[str, Any]:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": ""}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "x"}, "spec": spec}


def _refused(requests: ApiRequests, item: dict[str, Any]) -> bool:
    found = requests.create(item, STRANGER, dry=False)
    return bool(found) and not found.startswith("409")


def _exists(tier: ApiTier, item: dict[str, Any]) -> bool:
    return bool(tier.ask("get", item["kind"], "x", f"--namespace={OTHER}", "--ignore-not-found", "--output=name"))


def _facts(tier: ApiTier) -> Facts:
    with patch.object(probe.API, "ask", tier.ask):
        cluster = {"workloads": probe.workloads(probe.api_groups())}
    return Facts({"identity": IDENTITY, "kubernetes_cluster": cluster})


def _run(tier: ApiTier, step: object) -> None:
    assert isinstance(step, Command)
    argv = [each.replace("/etc/kubernetes/admin.conf", str(tier.kubeconfig)) for each in step.argv]
    done = subprocess.run(argv, env={**os.environ, "PATH": f"{tier.built}:{os.environ['PATH']}"}, check=False)
    need(done.returncode == 0, f"{step.text} failed")
