"""Kueue, JobSet and LeaderWorkerSet: the pins of their sources, and their manifests as a rack has them."""

import json
from typing import Any

import pytest
import yaml

from rackwright.kinds.cluster import controllers as claimed
from rackwright.toolchain import cache, kubernetes_controllers
from rackwright.toolchain.kubernetes_controllers import GROUPS, METRICS, QUEUE, Controllers, manifests
from tests.support.log import ROOT

IMAGE = "registry.k8s.io/kueue/kueue:v1.2.3"
WEBHOOKS = ("mjob.kb.io", "mjobset.kb.io", "mpod.kb.io", "mclusterqueue.kb.io", "mrayjob.kb.io", "mdeployment.kb.io")
SHIPPED: list[dict[str, Any]] = [
    {"kind": "Namespace", "metadata": {"name": "kueue-system"}},
    {
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "workloads"},
        "spec": {"schema": {"description": "A text.", "properties": {"description": {"type": "string"}}}},
    },
    {"kind": "ClusterRole", "metadata": {"name": "kueue-manager-role"}, "rules": []},
    {"kind": "ClusterRole", "metadata": {"name": "kueue-job-editor-role"}, "rules": []},
    {"kind": "ClusterRoleBinding", "metadata": {"name": "jobset-metrics-reader-rolebinding"}},
    {"kind": "APIService", "metadata": {"name": "v1beta2.visibility.kueue.x-k8s.io"}},
    {"kind": "Service", "metadata": {"name": "kueue-visibility-server"}},
    {"kind": "Secret", "metadata": {"name": "cert", "namespace": "kueue-system"}},
    {
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": "kueue"},
        "webhooks": [{"name": name} for name in WEBHOOKS],
    },
    {
        "kind": "ConfigMap",
        "metadata": {"name": "kueue-manager-config", "namespace": "kueue-system"},
        "data": {"controller_manager_config.yaml": "health: {port: 1}\nintegrations: {frameworks: [ray.io/rayjob]}\n"},
    },
    {
        "kind": "Deployment",
        "metadata": {"name": "kueue-controller-manager", "namespace": "kueue-system"},
        "spec": {
            "template": {
                "spec": {
                    "containers": [
                        {
                            "image": "main",
                            "ports": [{"name": "visibility"}, {"name": "webhook-server"}],
                            "volumeMounts": [{"name": "visibility"}, {"name": "cert"}],
                        }
                    ],
                    "securityContext": {"runAsNonRoot": True},
                    "volumes": [{"name": "visibility", "emptyDir": {}}, {"name": "cert", "secret": {}}],
                }
            }
        },
    },
]


@pytest.fixture
def adapted() -> dict[str, Any]:
    """Return the adapted objects of SHIPPED by their kinds."""
    found = manifests.adapt("kueue", IMAGE, yaml.safe_dump_all(SHIPPED), "queue")
    return {each["kind"]: each for each in found}


SEVERAL = pytest.mark.parametrize("controllers", [QUEUE, GROUPS, METRICS], ids=lambda each: each.name)


@SEVERAL
def test_versions_are_those_of_the_module(controllers: Controllers) -> None:
    for project in controllers.projects:
        assert f"{project.module} v{project.version} h1:" in (controllers.module / "go.sum").read_text()
    variables = yaml.safe_load((ROOT / "roles/kubernetes_control_plane/vars/debian-12.yml").read_text())
    assert variables[f"__kubernetes_control_plane_{controllers.name}_version"] == controllers.version


def test_a_rack_has_the_controllers_and_nothing_for_people(adapted: dict[str, Any]) -> None:
    """Rights of people are those of their teams; the interface of Kueue needs a port of the API server."""
    kept = {"Namespace", "CustomResourceDefinition", "ClusterRole", "Secret", "ConfigMap", "Deployment"}
    assert {*adapted} == {*kept, "MutatingWebhookConfiguration"}
    assert adapted["ClusterRole"]["metadata"]["name"] == "kueue-manager-role"


def test_controllers_run_on_control_planes_without_rights(adapted: dict[str, Any]) -> None:
    """A drain refuses a pod with an emptyDir, and a control plane is drained when it is upgraded."""
    pod = adapted["Deployment"]["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert (container["image"], container["imagePullPolicy"], container["command"]) == (IMAGE, "Never", ["/kueue"])
    assert [each["name"] for each in (*pod["volumes"], *container["volumeMounts"])] == ["cert", "cert"]
    assert pod["nodeSelector"] and pod["tolerations"]
    assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] > 0
    labels = adapted["Namespace"]["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def test_webhooks_see_jobs_and_no_pods_or_deployments(adapted: dict[str, Any]) -> None:
    """Without its controller, a webhook of all pods would stop each server of each team."""
    names = [each["name"] for each in adapted["MutatingWebhookConfiguration"]["webhooks"]]
    assert names == ["mjob.kb.io", "mjobset.kb.io", "mclusterqueue.kb.io"]


def test_kueue_admits_one_job_after_another(adapted: dict[str, Any]) -> None:
    [text] = adapted["ConfigMap"]["data"].values()
    settings = yaml.safe_load(text)
    assert settings["waitForPodsReady"]["blockAdmission"] is True
    assert settings["integrations"]["frameworks"] == [*manifests.FRAMEWORKS]
    assert settings["health"] == {"port": 1}


def test_schemas_lose_their_texts_and_no_properties(adapted: dict[str, Any]) -> None:
    schema = adapted["CustomResourceDefinition"]["spec"]["schema"]
    assert schema == {"properties": {"description": {"type": "string"}}}


def test_another_content_has_another_digest(adapted: dict[str, Any]) -> None:
    again = [dict(each) for each in SHIPPED]
    again[2] = {**again[2], "rules": [{"verbs": ["*"]}]}
    others = manifests.digests(manifests.adapt("kueue", IMAGE, yaml.safe_dump_all(again), "queue"))
    before = manifests.digests(adapted.values())
    assert {name for name in before if before[name] != others[name]} == {"ClusterRole/kueue-manager-role"}
    assert "kueue-system/Secret/cert" not in before


def test_webhooks_of_groups_see_pods_of_groups_alone() -> None:
    """
    The pods of a group have a label, by which the API asks the webhook.
    """
    shipped = [{**SHIPPED[8], "webhooks": [{"name": f"{each}.kb.io"} for each in ("mpod", "mleaderworkerset", "mjob")]}]
    [found] = manifests.adapt("lws", IMAGE, yaml.safe_dump_all(shipped), "groups")
    assert [each["name"] for each in found["webhooks"]] == ["mpod.kb.io", "mleaderworkerset.kb.io"]
    assert found["metadata"]["labels"] == {manifests.PART_OF: "groups"}


@SEVERAL
def test_claims_have_the_digests_of_the_package(controllers: Controllers) -> None:
    """If it fails: copy the file of the cache, and raise the revision here and in the variables of the role."""
    entry = kubernetes_controllers.entry(controllers)
    built = next((cache.directory() / "kubernetes").glob(f"*-{entry}-*"), None)
    if built is None:
        pytest.skip(f"`rackwright toolchain {controllers.package}` has not built it here")
    found = json.loads((built / kubernetes_controllers.DIGESTS).read_text())
    assert found == claimed.digests(claimed.ALL[f"controllers:{controllers.name}"])
