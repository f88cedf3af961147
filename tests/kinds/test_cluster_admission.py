"""The admission policies of teams: each field of the API has a verdict, and each bad one a hostile object."""

import json
import re

import pytest
import yaml
from pydantic import ValidationError

from rackwright.kinds.cluster import admission, fairness
from rackwright.kinds.cluster.cluster import ADMISSION_PLUGINS
from rackwright.kinds.cluster.quantity import RESOURCES, STORAGE
from rackwright.kinds.cluster.team import PRIORITIES, TeamPart, objects
from rackwright.kinds.pods import image
from rackwright.schema.cluster import CONTROLLERS, Cluster, Team
from rackwright.schema.cluster_store import COUNTS, ETCD_BYTES, OBJECT_BYTES, VERSIONS, team_bytes
from rackwright.schema.units import Size
from rackwright.toolchain.kubernetes import pins
from rackwright.toolchain.kubernetes_controllers import QUEUE
from tests.support.log import ROOT
from tests.support.pod_workloads import GROUPED, SERVING, TRAINING, made
from tests.support.team_attacks import attacks, permitted
from tests.support.team_fields import LIST, VERDICTS, judged, recorded

SMALL = Team(cpus=8, memory=Size("64GiB"))
POLICIES = [*admission.objects(["vision", "speech"], PRIORITIES["training"])]
SUMMARIES = ("has parts", "see ", "the template", "the volume is refused", "keeps pods of other teams away")
"""Beginnings of the reasons of fields whose parts, or whose whole volume, have a verdict of their own."""


def test_each_field_of_the_pinned_version_has_one_verdict():
    """A new version has new fields: each needs a verdict before it is used."""
    assert yaml.safe_load(LIST.read_text())["version"] == recorded()["version"] == pins.KUBERNETES
    assert judged().keys() == set(recorded()["fields"])
    [job_set] = [each.version for each in QUEUE.projects if each.name == "jobset"]
    assert yaml.safe_load(LIST.read_text())["job_set"] == recorded()["job_set"] == job_set
    assert all(each["verdict"] in VERDICTS and each["reason"] for each in judged().values())


def test_each_field_is_judged_once():
    several = [
        f"{sort}.{field}"
        for sort, entries in yaml.safe_load(LIST.read_text())["types"].items()
        for each in entries
        for field in each["fields"]
    ]
    assert len(several) == len(set(several))


def test_each_refused_field_has_a_hostile_object():
    """The acceptance line tries them at a real API server."""
    tried = {each.field for each in attacks() if not each.is_large}
    refused = {
        field
        for field, each in judged().items()
        if each["verdict"] in ("policy", "pod-security") and not each["reason"].startswith(SUMMARIES)
    }
    assert refused <= tried
    assert tried <= {field for field, each in judged().items() if each["verdict"] != "harmless"}


def test_the_policies_reach_the_namespaces_of_all_teams():
    """Operators cannot change the labels of their namespace. A team that is not declared any more keeps the label."""
    items = objects([TeamPart(name=name, declared=SMALL) for name in ("vision", "speech")])
    for name in ("vision", "speech"):
        assert items[f"Namespace/{name}"]["metadata"]["labels"][admission.TEAM_LABEL] == name
    bindings = [each for each in POLICIES if each["kind"] == admission.KINDS[1]]
    assert {each["spec"]["policyName"] for each in bindings} == {
        each["metadata"]["name"] for each in POLICIES if each["kind"] == admission.KINDS[0]
    }
    for each in bindings:
        selector = each["spec"]["matchResources"]["namespaceSelector"]
        assert selector == {"matchExpressions": [{"key": admission.TEAM_LABEL, "operator": "Exists"}]}
        assert each["spec"]["validationActions"] == ["Deny"]


@pytest.mark.parametrize("policy", [each for each in POLICIES if each["kind"] == admission.KINDS[0]], ids=str)
def test_no_policy_exempts_a_name_or_a_label(policy):
    """An operator chooses both: only the groups of the account that asks count."""
    assert policy["spec"]["failurePolicy"] == "Fail"
    text = json.dumps(policy).replace("!object.metadata.name.matches", "")  # a name that refuses more exempts nothing
    assert "object.metadata" not in text and "labels" not in text and "annotations" not in text
    assert policy["spec"]["matchConstraints"]["objectSelector"] == {}
    assert "userInfo.username" not in text


@pytest.mark.parametrize("name", [*CONTROLLERS, "kube-system", "default"])
def test_no_team_is_named_like_the_namespace_of_a_controller(name):
    """Its accounts are trusted."""
    with pytest.raises(ValidationError, match="belong to Kubernetes itself"):
        Cluster(control_plane="a", teams={name: SMALL}, address="192.0.2.1")


def test_claims_of_rackwright_are_known_by_their_names():
    """Their volumes name these claims, so that no claim of another name gets a path of the host."""
    for workload in (TRAINING, SERVING, GROUPED):
        items = made(workload).values()
        claims = [each["metadata"]["name"] for each in items if each["kind"] == "PersistentVolumeClaim"]
        assert claims and all(admission.is_our_claim(name) for name in claims)
        for volume in (each["spec"] for each in items if each["kind"] == "PersistentVolume"):
            assert admission.is_our_claim(volume["claimRef"]["name"])
            assert volume["claimRef"]["namespace"] == workload.team
    assert not any(
        admission.is_our_claim(name) for name in ("data", "run-data", "my-run-x-system-0123456z", "datasets")
    )
    assert admission.ACCOUNT == image.ACCOUNT


def test_what_is_permitted_is_tried_too():
    assert len([*permitted()]) >= 50 and len([*attacks()]) >= 200


def test_the_api_server_starts_with_the_plugins_that_are_claimed():
    text = (ROOT / "roles/kubernetes_control_plane/templates/etc/rackwright/kubernetes/kubeadm.yaml.j2").read_text()
    [line] = [each for each in text.splitlines() if "enable-admission-plugins" in each]
    found = yaml.safe_load(line.strip().removeprefix("- "))
    assert sorted(found["value"].split(",")) == sorted(ADMISSION_PLUGINS)


def test_a_team_takes_no_port_of_the_nodes_and_does_not_fill_the_store_of_the_cluster():
    """Each resource that an operator may make has a number."""
    for cohort in (None, "main"):
        items = objects([TeamPart(name="vision", declared=SMALL, cohort=cohort)])
        hard = items["vision/ResourceQuota/team"]["spec"]["hard"]
        assert (hard["services.nodeports"], hard["services.loadbalancers"]) == ("0", "0")
        made_by_operators = {
            f"{resource}.{group}" if group else resource
            for rule in items["vision/Role/operator"]["rules"]
            for group in rule["apiGroups"]
            for resource in rule["resources"]
            if "create" in rule["verbs"]
        }
        # a set of pods with a state has earlier versions of its template as objects of their own
        counted = {key.removeprefix("count/") for key in hard if key.startswith("count/")}
        assert counted == made_by_operators | {"controllerrevisions.apps"}
        assert {f"limits.{STORAGE}", f"requests.{STORAGE}"} <= hard.keys()


def test_the_quota_limits_each_resource_that_pods_may_ask_for():
    """Pods of a team cannot ask for a resource without a limit, whatever a device plugin calls it."""
    items = objects([TeamPart(name="vision", declared=SMALL)])
    hard = items["vision/ResourceQuota/team"]["spec"]["hard"]
    assert {f"requests.{name}" for name in RESOURCES} <= hard.keys()
    [limits] = items["vision/LimitRange/team"]["spec"]["limits"]
    assert limits["default"].keys() == limits["defaultRequest"].keys() == {"cpu", "memory", STORAGE}


def test_objects_and_versions_of_ten_teams_are_less_than_etcd_takes():
    """The acceptance line measures the rate; the role sets the limits with which the fleet is checked."""
    claims = yaml.safe_load((ROOT / "roles/kubernetes_control_plane/meta/claims.yml").read_text())["names"]
    assert claims["__kubernetes_control_plane_compaction"] == "30s"
    assert claims["__kubernetes_control_plane_etcd_bytes"] == f"{{{{ {ETCD_BYTES >> 30} * 1024 ** 3 }}}}"
    assert VERSIONS == 2000 * 2 * 30 and 10 * team_bytes(100, queue=True) + VERSIONS * OBJECT_BYTES < ETCD_BYTES


@pytest.mark.parametrize("cohort", [None, "main"])
def test_the_quota_counts_each_object_for_which_etcd_has_room(cohort):
    """Kueue's workloads and addresses of services are more than what the quota counts."""
    for pods in (1, 100, 5000):
        part = TeamPart(name="vision", declared=SMALL.model_copy(update={"pods": pods}), cohort=cohort)
        hard = objects([part])["vision/ResourceQuota/team"]["spec"]["hard"]
        counted = {key: int(number.replace("k", "000")) for key, number in hard.items() if key.startswith("count/")}
        several = sum(counted.values())
        if cohort:
            several += counted["count/jobs.batch"] + counted["count/jobsets.jobset.x-k8s.io"]
        assert several * OBJECT_BYTES + COUNTS["services"] * pods * 1024 == team_bytes(pods, cohort is not None)


SAFE = re.compile(admission.LONGER.replace(r"\p{C}", r"\x00-\x1f\x7f-\x9f").replace(r"\x{", r"\u").replace("}", ""))
"""The class of Go's syntax in Python's, for characters without others of the category C."""


def test_each_character_that_json_of_go_writes_longer_is_counted():
    """Source: Go, encoding/json, `appendString` with escapes for HTML."""
    longer = [
        "<",
        ">",
        "&",
        "\u2028",
        "\u2029",
        "\ufffd",
        *(chr(code) for code in range(32) if code not in (9, 10, 13)),
    ]
    assert [each for each in longer if not SAFE.search(each)] == []
    assert [each for each in map(chr, range(32, 127)) if SAFE.search(each)] == ["&", "<", ">"]
    # of the text of CEL, which has some with a backslash and no more than four characters
    assert all(SAFE.search(f"\\{each}") for each in ("a", "b", "f", "v", "x01", "u2028"))
    assert len("\\u003c") == 1 + admission.LONGER_BYTES


def test_people_and_pods_of_each_team_share_one_level_of_the_api():
    """An API server gives a level of few shares 3 seats, and none of its seats are of other levels."""
    items = objects([TeamPart(name=name, declared=SMALL.model_copy(update={"operators": (name,)})) for name in "ab"])
    level = items[f"PriorityLevelConfiguration/{fairness.NAME}"]["spec"]["limited"]
    assert (level["lendablePercent"], level["borrowingLimitPercent"]) == (0, 0)
    rules = items[f"FlowSchema/{fairness.NAME}"]["spec"]["rules"]
    subjects = [each for rule in rules for each in rule["subjects"]]
    assert [each["group"]["name"] for each in subjects if each["kind"] == "Group"] == ["a", "b"]
    accounts = [each["serviceAccount"] for each in subjects if each["kind"] == "ServiceAccount"]
    assert accounts == [{"namespace": "a", "name": "*"}, {"namespace": "b", "name": "*"}]
