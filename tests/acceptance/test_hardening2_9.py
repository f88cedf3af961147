"""Line 9: what an object says is compared, whatever name the person gave who changed it."""

from typing import Any
from unittest.mock import patch

from rackwright.core import diff as comparison
from rackwright.facts.facts import Facts
from rackwright.facts.probe import kubernetes as probe
from rackwright.kinds.cluster import controllers
from rackwright.kinds.cluster.team import TeamPart
from rackwright.kinds.cluster.team import objects as team_objects
from rackwright.kinds.pods import PodsKind
from rackwright.kinds.pods.spec import AutoscalePart, WorkloadPart
from rackwright.schema.cluster import Team
from rackwright.schema.units import Size
from rackwright.toolchain.kubernetes_controllers import GROUPS, METRICS, QUEUE, manifests
from tests.support import controller_manifests
from tests.support.acceptance import line
from tests.support.api_requests import ApiRequests
from tests.support.api_tier import ApiTier, api_tier
from tests.support.expect import eventually, need
from tests.support.log import Log
from tests.support.pod_workloads import GROUPED, IDENTITY, REPOSITORY, SERVING, TRAINING, made, spec_of

SECONDS = 120
TEAM = TeamPart(name="vision", declared=Team(cpus=64, memory=Size("64GiB")))
# a run and a server of one name would share a service
TRAINED = TRAINING.model_copy(update={"name": "trained"})
SCALED = SERVING.model_copy(update={"name": "scaled", "autoscale": AutoscalePart(max=3, cpu_percent=50)})
QUEUED = TRAINING.model_copy(update={"name": "queued", "queue": True})
PACKAGES = ((QUEUE, controllers.QUEUE), (GROUPS, controllers.GROUPS), (METRICS, controllers.METRICS))
NAMES = ("rackwright", "kube-controller-manager", "kube-apiserver", "lws", "kueue", "jobset", "kubectl-edit")
"""Names that `kubectl edit --field-manager` takes."""
_POD = "/spec/template/spec"
Edit = tuple[str, str, dict[str, Any] | list[dict[str, Any]]]
EDITS: tuple[Edit, ...] = (
    (
        "apps/v1",
        "deployments/digits",
        {"spec": {"template": {"spec": {"securityContext": {"supplementalGroupsPolicy": "Strict"}}}}},
    ),
    ("apps/v1", "deployments/digits", {"spec": {"template": {"spec": {"serviceAccountName": "other"}}}}),
    (
        "apps/v1",
        "deployments/digits",
        {"spec": {"template": {"spec": {"hostAliases": [{"ip": "192.0.2.1", "hostnames": ["x"]}]}}}},
    ),
    ("apps/v1", "deployments/digits", {"spec": {"template": {"spec": {"dnsConfig": {"searches": ["x.example"]}}}}}),
    ("apps/v1", "deployments/digits", {"spec": {"template": {"spec": {"schedulerName": "other"}}}}),
    ("apps/v1", "deployments/digits", {"spec": {"template": {"metadata": {"annotations": {"x": "y"}}}}}),
    ("apps/v1", "deployments/digits", {"spec": {"paused": True}}),
    ("v1", "services/digits", {"spec": {"sessionAffinity": "ClientIP"}}),
    ("v1", "services/digits", {"spec": {"publishNotReadyAddresses": True}}),
    ("v1", "services/digits", {"spec": {"selector": {"more": "x"}}}),
    ("batch/v1", "jobs/trained-launcher", {"spec": {"ttlSecondsAfterFinished": 1}}),
    ("batch/v1", "jobs/trained-launcher", {"spec": {"activeDeadlineSeconds": 9}}),
    ("policy/v1", "poddisruptionbudgets/digits", {"spec": {"unhealthyPodEvictionPolicy": "AlwaysAllow"}}),
)
"""Undeclared values, set by a merge patch of an object of a run or server."""


@line("hardening2", 9, part="pods")
def test_a_value_that_was_added_is_found_under_each_name_of_its_editor(log: Log) -> str:
    """The values that a real API server adds to objects of runs and servers are no difference."""
    with api_tier(log, log.empty_directory()) as tier:
        requests = ApiRequests(tier.kubeconfig)
        tier.set(*team_objects((TEAM,)).values())
        _definitions(tier, log)
        several = (TRAINED, SERVING, SCALED, GROUPED, QUEUED)
        for workload in several:
            tier.set(*made(workload).values())
        log("the values that the API adds")
        for workload in several:
            need(not (found := _undeclared(tier, workload)), f"{workload.name}: {found}")
        log("edits under each name")
        tried = 0
        for version, path, change in EDITS:
            for name in NAMES:
                place = f"/{'apis' if '/' in version else 'api'}/{version}/namespaces/{TEAM.name}/{path}"
                status, before = requests.ask("GET", place)
                status, answer = requests.ask("PATCH", f"{place}?fieldManager={name}", change)
                need(status == 200, f"{path} {change}: {answer}")
                found = [*_undeclared(tier, SERVING), *_undeclared(tier, TRAINED)]
                need(bool(found), f"{path} {change} as {name} is not found")
                _restore(requests, place, before)
                tried += 1
        for workload in several:
            need(not (found := _undeclared(tier, workload)), f"{workload.name}, in the end: {found}")
    return f"{tried} edits found: {len(EDITS)} values under {len(NAMES)} names; {len(several)} workloads without any"


@line("hardening2", 9, part="controllers")
def test_a_changed_object_of_a_controller_is_found_though_its_annotation_stays(log: Log) -> str:
    """Kueue, JobSet, LeaderWorkerSet and Metrics Server at a real API server, which adds values to their objects."""
    tried = same = 0
    with api_tier(log, log.empty_directory()) as tier:
        requests = ApiRequests(tier.kubeconfig)
        for several, claimed in PACKAGES:
            items = controller_manifests.read(several, tier.built / "kubectl", log)
            need(
                manifests.digests(items) == controllers.digests(claimed),
                f"{several.name}: the claims have other digests",
            )
            if spaces := [each for each in items if each["kind"] == "Namespace"]:
                tier.set(*spaces)
            eventually(lambda items=items: _is_set(tier, items), f"the objects of {several.name} are set", SECONDS)
            tier.manifests = {probe.name_of(item): item for item in items if item["kind"] != "Secret"}
            log(f"the values that the API adds to {len(items)} objects of {several.name}")
            need(not (found := _changed(tier, several.name)), f"{several.name}: {found}")
            same += len(tier.manifests)
            for item in tier.manifests.values():
                for change in _changes(item):
                    tried += _need_found(requests, tier, several.name, item, change, NAMES[tried % len(NAMES)])
    return f"{tried} changes found under {len(NAMES)} names; {same} objects as they were set are no difference"


def _changes(item: dict[str, Any]) -> list[dict[str, Any]]:
    """Return changes of an object by which its controller, or a stranger, would get other rights or other programs."""
    match item["kind"]:
        case "ClusterRole" | "Role":
            return [{"rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]}]
        case "ClusterRoleBinding" | "RoleBinding":
            return [{"subjects": [*item["subjects"], {"kind": "User", "name": "mallory", "apiGroup": _RBAC}]}]
        case "Deployment":
            pod = {"template": {"spec": {"hostNetwork": True}}}
            return [
                {"spec": {"paused": True}},
                {"spec": pod},
                {"spec": {"template": {"metadata": {"labels": {"x": "y"}}}}},
            ]
        case "ConfigMap":
            return [{"data": {"more": "x"}}]
        case "Service":
            return [{"spec": {"sessionAffinity": "ClientIP"}}, {"spec": {"selector": {"more": "x"}}}]
        case "ServiceAccount":
            return [{"automountServiceAccountToken": False}, {"imagePullSecrets": [{"name": "x"}]}]
        case "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration":
            first = {**item["webhooks"][0], "failurePolicy": "Ignore"}
            return [{"webhooks": [first, *item["webhooks"][1:]]}, {"webhooks": item["webhooks"][1:]}]
        case "CustomResourceDefinition":
            return [{"spec": {"names": {**item["spec"]["names"], "shortNames": ["mallory"]}}}]
        case "Namespace":
            label = "pod-security.kubernetes.io/enforce"
            return [{"metadata": {"labels": {label: "privileged"}}}, {"metadata": {"labels": {"more": "x"}}}]
        case "APIService":
            return [{"spec": {"versionPriority": 999}}]
        case kind:
            raise AssertionError(f"no change of a {kind} is tried")


_RBAC = "rbac.authorization.k8s.io"
_PLURALS = {"NetworkPolicy": "networkpolicies"}


def _need_found(
    requests: ApiRequests, tier: ApiTier, name: str, item: dict[str, Any], change: dict[str, Any], manager: str
) -> int:
    key = probe.name_of(item)
    plural = _PLURALS.get(item["kind"], f"{item['kind'].lower()}s")
    version, namespace = item["apiVersion"], item["metadata"].get("namespace")
    base = f"/apis/{version}" if "/" in version else f"/api/{version}"
    place = f"{base}{f'/namespaces/{namespace}' if namespace else ''}/{plural}/{item['metadata']['name']}"
    _, before = requests.ask("GET", place)
    status, answer = requests.ask("PATCH", f"{place}?fieldManager={manager}", change)
    need(status == 200, f"{key} {change}: {answer}")
    found = _changed(tier, name)
    need(found == [key], f"{key} {change} as {manager}: found are {found}")
    _restore(requests, place, before)
    need(not (found := _changed(tier, name)), f"{key} is not as before: {found}")
    return 1


def _restore(requests: ApiRequests, place: str, before: Any) -> None:
    """Set an object as it was before."""
    _, now = requests.ask("GET", place)
    before["metadata"]["resourceVersion"] = now["metadata"]["resourceVersion"]
    status, answer = requests.ask("PUT", f"{place}?fieldManager=rackwright", before)
    need(status == 200, f"{place} was not restored: {answer}")


def _is_set(tier: ApiTier, items: list[dict[str, Any]]) -> bool:
    """Set the objects; a definition needs a moment before the API takes objects of its kind."""
    try:
        tier.set(*items)
    except AssertionError:
        return False
    return True


def _changed(tier: ApiTier, name: str) -> list[str]:
    return tier.changed_controllers(name)


def _definitions(tier: ApiTier, log: Log) -> None:
    """Set the definitions of job sets and of groups, without their controllers."""
    for several in (QUEUE, GROUPS):
        items = controller_manifests.read(several, tier.built / "kubectl", log)
        chosen = [each for each in items if each["kind"] == "CustomResourceDefinition"]
        for each in chosen:
            each["spec"].pop("conversion", None)  # its webhook does not run
        tier.set(*chosen)
    groups = f"{probe.JOB_SETS},{probe.GROUPS}"
    asked = ("get", groups, "--all-namespaces", "--output=json")
    eventually(lambda: bool(tier.ask(*asked, check=False)), "definitions are served", SECONDS)


def _undeclared(tier: ApiTier, workload: WorkloadPart) -> list[str]:
    """Return the paths at which the objects of *workload* differ, but for the state of its pods."""
    with patch.object(probe.API, "ask", tier.ask):
        cluster = {"workloads": probe.workloads([probe.KUEUE, probe.LEADER_WORKER_SET])}
    facts = Facts({"identity": IDENTITY, "kubernetes_cluster": cluster})
    claims = PodsKind().claims(spec_of(workload), REPOSITORY)
    differences = comparison.diff(claims, PodsKind().observe(claims, facts))
    return [f"{item.path}: {item.actual}" for item in differences if item.thing.startswith("object:")]
