"""Root of one node reaches no other: the policies for accounts of nodes, their labels, and tokens of joins."""

import json
from typing import Any

import pytest

from rackwright.core import diff as comparison
from rackwright.core.contract import Command, Plan
from rackwright.facts.facts import Facts
from rackwright.kinds.cluster import admission, further_plane, join_files, node_admission, team
from rackwright.kinds.cluster.node import _JOIN
from rackwright.schema.cluster import HOSTNAME_LABEL
from tests.support.mutations import Raw
from tests.support.recorded_hosts import RESOURCES, STACK, recorded

CLUSTER = RESOURCES["birch/cluster"]
OBJECTS = [*node_admission.objects(("birch",))]
POLICIES = [each for each in OBJECTS if each["kind"] == admission.KINDS[0]]


def planned(raw: Raw) -> tuple[list[str], Plan]:
    claims = CLUSTER.kind.claims(CLUSTER.spec, STACK.repository)
    differences = comparison.diff(claims, CLUSTER.kind.observe(claims, Facts(raw)))
    return [item.path for item in differences], CLUSTER.kind.plan(
        CLUSTER.spec, differences, Facts(raw), STACK.repository
    )


def test_the_policies_hold_in_the_whole_cluster_for_each_node():
    """
    A kubelet makes mirror pods and events in namespaces without a team too.
    """
    names = {each["metadata"]["name"] for each in POLICIES}
    bindings = [each["spec"] for each in OBJECTS if each["kind"] == admission.KINDS[1]]
    assert names == {f"rackwright-nodes-{name}" for name in ("pods", "labels", "events", "size")}
    assert {each["policyName"] for each in bindings} == names
    for each in bindings:
        assert each["validationActions"] == ["Deny"]
        assert each["matchResources"]["namespaceSelector"] == each["matchResources"]["objectSelector"] == {}
    for each in POLICIES:
        [condition] = each["spec"]["matchConditions"]
        assert "system:nodes" in condition["expression"] and "!" not in condition["expression"]
        assert each["spec"]["failurePolicy"] == "Fail"


def test_a_status_of_a_node_is_checked_as_the_node_itself():
    """
    The API takes labels in both.
    """
    [labels] = [each for each in POLICIES if each["metadata"]["name"] == "rackwright-nodes-labels"]
    [rule] = labels["spec"]["matchConstraints"]["resourceRules"]
    assert rule["resources"] == ["nodes", "nodes/status"]
    assert HOSTNAME_LABEL not in node_admission.OWN_LABELS


def test_objects_of_all_sorts_have_a_limit_with_their_parts():
    [size] = [each for each in POLICIES if each["metadata"]["name"] == "rackwright-nodes-size"]
    [rule] = size["spec"]["matchConstraints"]["resourceRules"]
    assert (rule["apiGroups"], rule["apiVersions"], rule["resources"]) == (["*"], ["*"], ["*/*"])


def test_a_cluster_without_teams_has_the_policies_and_one_of_others_has_not():
    claims = {each.thing for each in CLUSTER.kind.claims(CLUSTER.spec, STACK.repository)}
    assert CLUSTER.spec.teams == () and "object:ValidatingAdmissionPolicy/rackwright-nodes-pods" in claims
    provided = CLUSTER.spec.model_copy(update={"provided": True})
    assert not any("rackwright-nodes" in each.thing for each in CLUSTER.kind.claims(provided, STACK.repository))


@pytest.mark.parametrize(
    "name", ["ValidatingAdmissionPolicy/rackwright-nodes-pods", "FlowSchema/rackwright-nodes-events"]
)
def test_a_policy_that_was_changed_or_deleted_is_set_again(name):
    raw = recorded("birch")
    raw["kubernetes_cluster"]["objects"][name]["spec"].popitem()
    paths, plan = planned(raw)
    assert paths and all(path.startswith(f"object:{name}.") for path in paths)
    assert not plan.by_hand and plan.steps[-1].text == f"set {name}"

    raw = recorded("birch")
    del raw["kubernetes_cluster"]["objects"][name]
    assert planned(raw)[1].steps[-1].text == f"set {name}"


@pytest.mark.parametrize("label", ["maple", "", None])
def test_another_host_name_of_a_node_is_found_and_set_back(label):
    """
    Pods and volumes of one host would come to the other one.
    """
    raw = recorded("birch")
    labels = raw["kubernetes_cluster"]["nodes"]["aspen"]["labels"]
    labels.pop(HOSTNAME_LABEL)
    if label is not None:
        labels[HOSTNAME_LABEL] = label
    paths, plan = planned(raw)

    assert paths == ["node:aspen.hostname"] and not plan.by_hand
    [step] = plan.steps
    assert isinstance(step, Command)
    assert step.argv[-5:] == ("label", "nodes", "aspen", "--overwrite", f"{HOSTNAME_LABEL}=aspen")


def test_tokens_of_earlier_joins_are_found_and_deleted():
    """
    Their holder would get a certificate of any node.
    """
    raw = recorded("birch")
    raw["kubernetes_cluster"]["join_tokens"] = ["bootstrap-token-abcdef"]
    paths, plan = planned(raw)

    assert paths == ["tokens:kubeadm.join_tokens"] and not plan.by_hand
    [step] = plan.steps
    assert isinstance(step, Command) and "--field-selector=type=bootstrap.kubernetes.io/token" in step.argv


def test_facts_of_an_earlier_probe_leave_the_tokens_unknown():
    raw = recorded("birch")
    del raw["kubernetes_cluster"]["join_tokens"]
    paths, plan = planned(raw)
    assert (paths, plan.steps) == (["tokens:kubeadm.join_tokens"], ()) and plan.by_hand[0].is_unknown


def test_no_credentials_of_a_node_are_those_of_any_node():
    """
    A token belongs to a group whose requests kubeadm's own bindings approve for each name of a node.
    """
    assert "token" not in join_files.INVITE + join_files.NODE + _JOIN
    assert '--client-name "system:node:$1" --validity-period 1h' in join_files.INVITE
    # a further control plane gets the keys of the authorities, and its token is deleted when it has joined
    steps = further_plane.join("holly", "main", "beech", "192.0.2.9:6443", "192.0.2.2")
    assert steps[-1].argv[-2:] == ("sh", "holly") and "join of $1" in str(steps[-1].argv)
    assert 'token create --ttl 10m --description "join of $1"' in join_files.BEGIN


@pytest.mark.parametrize("found", [{"unknown": "ValueError: x"}, {"ready": True}])
def test_a_node_that_cannot_be_read_leaves_all_others_known(found: dict[str, Any]):
    """
    A kubelet writes the status of its node.
    """
    raw = recorded("birch")
    raw["kubernetes_cluster"]["nodes"]["aspen"] = found
    paths, _ = planned(raw)
    assert paths and all(path.startswith("node:aspen.") for path in paths)
    raw["kubernetes_cluster"]["nodes"]["stranger"] = found
    assert "cluster:main.nodes" in [item.path for item in planned(raw)[1].by_hand]


def test_an_event_has_room_for_those_of_kubelet():
    event = {"kind": "Event", "involvedObject": {"name": "x" * 253}, "message": "y" * 1024, "metadata": {"name": "z"}}
    assert 4 * len(json.dumps(event)) < node_admission.EVENT_BYTES < node_admission.NODE_BYTES
    assert team.objects((), ("birch",)).keys() == {team.name_of(each) for each in OBJECTS}
