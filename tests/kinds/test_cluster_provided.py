"""A cluster of others that is read by its URL, on facts recorded from an API server: compared, and never changed."""

from dataclasses import replace

import pytest

from rackwright.audit import report
from rackwright.core import diff as comparison
from rackwright.core.contract import Absent, Difference, EndpointSource, UnknownValue
from rackwright.facts.facts import Facts
from rackwright.schema.cluster import Team
from rackwright.schema.units import Size
from rackwright.stack import Stack, declare
from tests.support.mutations import Raw
from tests.support.recorded_hosts import SHARED, STACK, recorded

VISION = Team(cpus=64, memory=Size("512GiB"), gpus=4, operators=("ops",), viewers=("auditors",))
FORBIDDEN = {"unknown": "the API answers 403 Forbidden: roles is forbidden"}


def stack_of(**changes: object) -> Stack:
    cluster = SHARED.fleet.clusters["shared"].model_copy(update={"teams": {"vision": VISION}, **changes})
    return replace(SHARED, fleet=SHARED.fleet.model_copy(update={"clusters": {"shared": cluster}}))


[DECLARED] = declare(stack_of())
CLAIMS = DECLARED.kind.claims(DECLARED.spec, STACK.repository)


def facts() -> Raw:
    return recorded("kubernetes:shared")


def found(raw: Raw) -> tuple[Difference, ...]:
    return comparison.diff(CLAIMS, DECLARED.kind.observe(CLAIMS, Facts(raw)))


def test_the_cluster_is_one_resource_of_its_endpoint():
    """
    Its name begins with that of the cluster, which no host has.
    """
    assert (DECLARED.name, DECLARED.source) == ("shared/cluster", "kubernetes:shared")
    assert DECLARED.spec.facts_source == EndpointSource("kubernetes", "shared")
    assert SHARED.endpoint_sources == (EndpointSource("kubernetes", "shared"),)
    assert "host" not in DECLARED.inputs


def test_neither_the_address_nor_the_token_is_in_the_state():
    """
    The inputs are in the state as they are.
    """
    assert "shared.example" not in repr(DECLARED.inputs).replace("cp-1.shared.example", "")
    assert "token" not in repr(DECLARED.inputs)


def test_what_was_recorded_is_as_declared():
    """
    What Kubernetes itself has set is no difference: labels of namespaces, and taints of nodes that are not ready.
    """
    assert found(facts()) == ()


def edited(raw: Raw) -> Raw:
    """Make an edit of each kind, additions to lists among them."""
    cluster = raw["kubernetes_cluster"]
    nodes, objects = cluster["nodes"], cluster["objects"]
    cluster["version"] = "v1.37.3"
    nodes["stranger"] = nodes["gpu-21"]
    nodes["gpu-22"] = {**nodes["gpu-22"], "schedulable": False, "labels": {"rack": "z9"}}
    nodes["cp-1.shared.example"]["taints"].remove("node-role.kubernetes.io/control-plane:NoSchedule")
    objects["vision/Role/viewer"]["rules"].append({"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]})
    objects["vision/ResourceQuota/team"]["spec"]["hard"]["count/secrets"] = "5"
    objects["vision/RoleBinding/friend"] = objects["vision/RoleBinding/viewer"]
    del objects["vision/NetworkPolicy/dns"]
    return raw


EDITED = {
    "cluster:shared.version",
    "cluster:shared.nodes",
    "node:gpu-22.schedulable",
    "node:gpu-22.labels",
    "node:cp-1.shared.example.taints",
    "object:vision/Role/viewer.rules",
    "object:vision/ResourceQuota/team.fields",
    "namespace:vision.undeclared",
}


def test_edits_are_found_under_their_paths_and_left_to_a_person():
    """
    No step changes a cluster of others, whatever is different, and each difference has advice.
    """
    raw = edited(facts())
    differences = found(raw)
    plan = DECLARED.kind.plan(DECLARED.spec, differences, Facts(raw), STACK.repository)

    dns = {item.path for item in differences if item.thing == "object:vision/NetworkPolicy/dns"}
    assert {item.path for item in differences} - dns == EDITED and dns
    assert all(isinstance(item.actual, Absent) for item in differences if item.path in dns)
    assert (plan.steps, plan.refusals, plan.by_hand) == ((), (), differences)
    assert all(item.remedy and "rackwright up" not in item.remedy for item in differences)


def test_a_kind_that_was_not_listed_is_unknown_and_the_others_are_compared():
    """
    Whether other roles are in the namespace is unknown as well.
    """
    raw = facts()
    objects = raw["kubernetes_cluster"]["objects"]
    for name in [name for name in objects if "/Role/" in name]:
        del objects[name]
    objects["Role"] = FORBIDDEN
    differences = found(raw)

    assert {item.thing for item in differences} == {
        "object:vision/Role/viewer",
        "object:vision/Role/operator",
        "namespace:vision",
    }
    assert all(isinstance(item.actual, UnknownValue) and "403 Forbidden" in item.actual.reason for item in differences)
    assert {item.remedy for item in differences} == {
        "give the account of the token the right to list these objects in the whole cluster, and run the same command "
        "again"
    }


def test_an_undeclared_object_is_found_though_another_kind_was_not_listed():
    raw = facts()
    objects = raw["kubernetes_cluster"]["objects"]
    objects["LimitRange"] = FORBIDDEN
    objects["vision/Role/admin"] = objects["vision/Role/viewer"]
    [item] = [item for item in found(raw) if item.thing == "namespace:vision"]

    assert item.actual == ("vision/Role/admin",)


@pytest.mark.parametrize("part", ["version", "nodes", "objects"])
def test_a_part_that_was_not_read_is_unknown(part):
    """
    No property of it holds, and none differs.
    """
    raw = facts()
    raw["kubernetes_cluster"][part] = FORBIDDEN
    differences = found(raw)

    assert differences and all(item.is_unknown for item in differences)
    sorts = {"version": {"cluster"}, "nodes": {"cluster", "node"}, "objects": {"object", "namespace"}}
    assert {item.thing.partition(":")[0] for item in differences} == sorts[part]


def test_an_audit_without_an_answer_reports_no_property_as_right():
    """
    The report ends with the status of what is unknown.
    """
    stack = stack_of()
    compared = report.compare(stack, {"kubernetes:shared": Facts({"kubernetes_cluster": FORBIDDEN})})

    [result] = compared.results
    assert compared.exit_status == 3
    assert len(result.differences) == sum(len(claim.want) for claim in CLAIMS)


def test_a_node_may_have_another_version_than_the_api():
    nodes = dict(SHARED.fleet.clusters["shared"].nodes)
    nodes["gpu-21"] = nodes["gpu-21"].model_copy(update={"version": "1.36.9"})
    [declared] = declare(stack_of(nodes=nodes))

    versions = {node.name: node.version for node in declared.spec.nodes}
    assert versions == {"cp-1.shared.example": "v1.37.2", "gpu-21": "v1.36.9", "gpu-22": "v1.37.2"}


def test_a_virtual_rack_leaves_the_cluster_out():
    """
    A rehearsal has no part in it, and does not need its token.
    """
    virtual = replace(stack_of(), twin="shared")

    assert declare(virtual) == ()
    assert virtual.endpoint_sources == ()


def test_its_removal_from_the_fleet_changes_nothing():
    """
    The entry leaves the state though the endpoint is gone.
    """
    assert DECLARED.spec.is_only_compared
    assert DECLARED.kind.removal(DECLARED.spec, Facts({}), STACK.repository, consent=True).steps == ()
