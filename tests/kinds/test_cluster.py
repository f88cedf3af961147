"""What the plans of a cluster and of its nodes do with what is found, on facts recorded from three containers."""

from dataclasses import replace
from typing import Any

import pytest

from rackwright.core import diff as comparison
from rackwright.core.contract import Command, Difference, Plan, Put, PutOutput, Remove, UnknownValue
from rackwright.facts.facts import Facts
from rackwright.stack.clusters import (
    clusters,
    control_planes_first,
    role_prerequisites,
    role_variables,
    version_problems,
)
from tests.support.mutations import Raw
from tests.support.recorded_hosts import CLUSTERED, RESOURCES, STACK, recorded

KUBECTL = ("kubectl", "--kubeconfig", "/etc/kubernetes/admin.conf", "--request-timeout=60s")


def planned(name: str, raw: Raw) -> Plan:
    declared = RESOURCES[name]
    return declared.kind.plan(declared.spec, found(name, raw), Facts(raw), STACK.repository)


def found(name: str, raw: Raw) -> tuple[Difference, ...]:
    declared = RESOURCES[name]
    claims = declared.kind.claims(declared.spec, STACK.repository)
    return comparison.diff(claims, declared.kind.observe(claims, Facts(raw)))


def blank() -> Raw:
    """Return the facts of a host that has joined no cluster."""
    raw = recorded("aspen")
    raw["kubernetes_node"] = None
    raw["units"]["kubelet.service"]["active"] = "activating"
    del raw["owners"]["node"]
    return raw


def node(raw: Raw, name: str) -> dict[str, Any]:
    found: dict[str, Any] = raw["kubernetes_cluster"]["nodes"][name]
    return found


def test_a_host_joins_with_a_certificate_of_its_own_node():
    """
    The plan names the command that prints the credentials, and never has them itself. There is no token, which would
    give its holder the identity of any node.
    """
    plan = planned("aspen/node", blank())

    assert [step.text for step in plan.steps] == [
        "note in the owner file: joining",
        "get a certificate of the node from birch for an hour",
        "join cluster main",
        "mark the node, and wait until it is ready",
        "note in the owner file: ready",
    ]
    _, token, join, settle, _ = plan.steps
    assert isinstance(token, PutOutput) and isinstance(join, Command)
    assert (token.source, token.argv[-2:]) == ("birch", ("aspen", "10.145.0.11:6443"))
    assert token.path == join.argv[-2] == "/run/rackwright-join.conf"
    assert '--client-name "system:node:$1"' in token.argv[2] and "token" not in token.argv[2] + join.argv[2]
    assert 'rm -f "$2" "$3"' in join.argv[2]
    assert isinstance(settle, Command) and settle.argv[-1] == "rackwright.local/fleet=cluster"


def test_a_join_that_was_cut_goes_on():
    """
    What is left is the owner file with the phase `joining`; the host asks for other credentials.
    """
    raw = blank()
    raw["owners"]["node"] = {"id": "aspen/node", "fleet": "cluster", "phase": "joining"}

    assert [type(step) for step in planned("aspen/node", raw).steps] == [Put, PutOutput, Command, Command, Put]


def test_a_node_that_joined_and_was_not_marked_is_marked():
    """
    The run was cut after `kubeadm join`; without the mark a person would have to remove the node one day.
    """
    raw = recorded("aspen")
    raw["owners"]["node"]["phase"] = "joining"

    assert [step.text for step in planned("aspen/node", raw).steps] == [
        "mark the node, and wait until it is ready",
        "note in the owner file: ready",
    ]


def test_a_node_of_another_cluster_is_refused():
    """
    Joining would take its pods away.
    """
    raw = recorded("aspen")
    raw["kubernetes_node"]["server"] = "https://192.0.2.9:6443"
    plan = planned("aspen/node", raw)

    assert not plan.steps
    [refusal] = plan.refusals
    assert refusal.problem == "the host is a node of the cluster at https://192.0.2.9:6443"


def test_a_kubelet_that_was_stopped_starts_again():
    """
    The host does not join again.
    """
    raw = recorded("aspen")
    raw["units"]["kubelet.service"]["active"] = "inactive"

    assert [step.text for step in planned("aspen/node", raw).steps] == [
        "start kubelet",
        "mark the node, and wait until it is ready",
        "note in the owner file: ready",
    ]


def test_a_node_leaves_when_its_pods_are_elsewhere():
    """
    A host that never joined has nothing to leave.
    """
    kind, spec = RESOURCES["aspen/node"].kind, RESOURCES["aspen/node"].spec
    plan = kind.removal(spec, Facts(recorded("aspen")), STACK.repository, consent=False)

    assert [type(step) for step in plan.steps] == [PutOutput, Command, Remove]
    drain = plan.steps[0]
    assert isinstance(drain, PutOutput)
    assert (drain.source, drain.path) == ("birch", "")
    assert "kubectl drain" in drain.argv[2] and "delete-emptydir-data" not in drain.argv[2]
    assert kind.removal(spec, Facts(blank()), STACK.repository, consent=False) == Plan()


def test_labels_taints_and_cordons_are_mended():
    """
    Labels and taints that nobody declared are removed, and those of Kubernetes itself stay.
    """
    raw = recorded("birch")
    node(raw, "aspen")["labels"].update(rack="a9", team="b")
    node(raw, "aspen")["taints"] = ["node.kubernetes.io/not-ready:NoSchedule", "own=1:NoExecute"]
    node(raw, "maple")["taints"] = ["reserved=team-b:NoSchedule"]
    node(raw, "maple")["schedulable"] = False
    plan = planned("birch/cluster", raw)

    assert not plan.by_hand
    assert [step.argv for step in plan.steps if isinstance(step, Command)] == [
        (*KUBECTL, "label", "nodes", "aspen", "--overwrite", "rack=a1", "team-"),
        (*KUBECTL, "taint", "nodes", "aspen", "--overwrite", "own:NoExecute-"),
        (*KUBECTL, "taint", "nodes", "maple", "--overwrite", "reserved=team-a:NoSchedule"),
        (*KUBECTL, "uncordon", "maple"),
    ]


@pytest.mark.parametrize(
    ("change", "path"),
    [
        (lambda raw: node(raw, "aspen").update(ready=False), "node:aspen.ready"),
        (lambda raw: node(raw, "aspen").update(pressure=["DiskPressure"]), "node:aspen.pressure"),
        (lambda raw: node(raw, "aspen").update(version="v1.36.0"), "node:aspen.version"),
        (lambda raw: raw["kubernetes_cluster"]["nodes"].update(stranger={"fleet": None}), "cluster:main.nodes"),
        (lambda raw: raw["kubernetes_cluster"].update(version="v1.36.0"), "cluster:main.version"),
    ],
    ids=["not ready", "pressure", "another kubelet", "an undeclared node", "another API"],
)
def test_the_rest_needs_a_person(change, path):
    """
    Nothing is changed for it.
    """
    raw = recorded("birch")
    change(raw)
    plan = planned("birch/cluster", raw)

    assert (plan.steps, [item.path for item in plan.by_hand]) == ((), [path])
    assert plan.by_hand[0].remedy


def test_a_node_that_joined_by_the_fleet_leaves_without_a_declaration():
    """
    Its own resource is removed afterwards, and then finds that it has left.
    """
    raw = recorded("birch")
    raw["kubernetes_cluster"]["nodes"]["oak"] = {**node(raw, "aspen"), "fleet": "cluster"}
    plan = planned("birch/cluster", raw)

    assert ([step.text for step in plan.steps], plan.by_hand) == (["drain oak, and remove it"], ())
    raw["kubernetes_cluster"]["nodes"]["oak"]["fleet"] = "another"
    plan = planned("birch/cluster", raw)
    assert (plan.steps, [item.path for item in plan.by_hand]) == ((), ["cluster:main.nodes"])


def test_kube_proxy_follows_when_all_nodes_have_the_new_images():
    """
    kubeadm would upgrade it with the control plane, before the nodes have its image.
    """
    raw = recorded("birch")
    raw["kubernetes_cluster"]["addons"]["kube-proxy"] = "v1.36.4"
    plan = planned("birch/cluster", raw)

    assert not plan.by_hand
    [step] = plan.steps
    assert isinstance(step, Command) and step.argv[:5] == ("kubeadm", "init", "phase", "addon", "all")


def test_a_provided_cluster_is_compared_and_never_changed():
    """
    Its hosts need no roles, and none of them joins or leaves.
    """
    fleet = CLUSTERED.fleet
    hosts = {name: host.model_copy(update={"roles": {}}) for name, host in fleet.hosts.items()}
    provided = {"main": fleet.clusters["main"].model_copy(update={"provided": True, "version": "1.37.2"})}
    stack = replace(CLUSTERED, fleet=fleet.model_copy(update={"hosts": hosts, "clusters": provided}))
    [declared] = clusters(stack)
    raw = recorded("birch")
    claims = declared.kind.claims(declared.spec, STACK.repository)

    assert comparison.diff(claims, declared.kind.observe(claims, Facts(raw))) == ()
    node(raw, "aspen")["labels"].update(rack="a9")
    del raw["kubernetes_cluster"]["nodes"]["maple"]
    differences = comparison.diff(claims, declared.kind.observe(claims, Facts(raw)))
    plan = declared.kind.plan(declared.spec, differences, Facts(raw), STACK.repository)
    assert (plan.steps, plan.refusals) == ((), ())
    assert {"node:aspen.labels", "cluster:main.nodes"} <= {item.path for item in plan.by_hand}
    assert role_variables(stack, "aspen", "kubernetes_node") == {}
    assert role_prerequisites(stack, "aspen", "kubernetes_node") == ()
    assert [*version_problems(stack)] == []


def test_an_api_that_does_not_answer_is_unknown():
    """
    Unknown is never as declared, and never acted on.
    """
    raw = recorded("birch")
    raw["kubernetes_cluster"] = {"version": {"unknown": "refused"}, "nodes": {"unknown": "refused"}}
    plan = planned("birch/cluster", raw)

    assert not plan.steps
    assert plan.by_hand and all(isinstance(item.actual, UnknownValue) for item in plan.by_hand)


def test_each_node_has_routes_to_the_pods_of_the_others():
    """
    They follow from the cluster. Without a default route a host reaches no service, unless it has a route to them.
    """
    assert role_variables(CLUSTERED, "aspen", "kubernetes_node") == {
        "teams": [],
        "nodes": [
            {"address": "10.145.0.11", "pod_network": "10.244.1.0/24"},
            {"address": "10.145.0.13", "pod_network": "10.244.3.0/24"},
        ],
        "service_network": "10.96.0.0/12",
        "network_routes": True,
    }
    assert role_variables(CLUSTERED, "aspen", "base") == {}


def test_a_node_has_labels_with_the_gpus_of_its_profile() -> None:
    """
    A declared label of the same name wins, and a provided cluster has its own labels.
    """
    hosts = dict(CLUSTERED.fleet.hosts)
    hosts["aspen"] = hosts["aspen"].model_copy(update={"profile": "training-a100"})
    fleet = CLUSTERED.fleet.model_copy(update={"hosts": hosts})
    [cluster] = [each.spec for each in clusters(replace(CLUSTERED, fleet=fleet)) if each.name == "birch/cluster"]
    labels = {node.name: node.labels for node in cluster.nodes}
    assert labels["aspen"] == ("gpu.rackwright.local/a100-80gb=4", "rack=a1")
    assert labels["maple"] == ("rack=a2",)


def test_the_control_plane_is_upgraded_before_its_nodes():
    """
    Its host is declared first, whatever its place in the file.
    """
    assert role_prerequisites(CLUSTERED, "aspen", "kubernetes_node") == (
        "aspen/network",
        "birch/kubernetes_control_plane",
    )
    assert role_prerequisites(CLUSTERED, "aspen", "base") == ()
    assert role_prerequisites(CLUSTERED, "birch", "kubernetes_node") == ("birch/network",)
    hosts = dict(reversed(CLUSTERED.fleet.hosts.items()))
    fleet = CLUSTERED.fleet.model_copy(update={"hosts": hosts})
    assert [name for name, _ in control_planes_first(fleet)] == ["birch", "maple", "aspen"]


@pytest.mark.parametrize(
    ("versions", "problem"),
    [
        ({}, ""),
        ({"aspen": "1.34.9"}, ""),
        ({"aspen": "1.33.1"}, "got 1.33.1; 1.34 to 1.37.2: kubelet is at most 3 minor versions older than the API"),
        ({"aspen": "1.38.0"}, "got 1.38.0; at most 1.37.2, the version of birch"),
        ({"birch": "1.36.4"}, "got 1.36.4; 1.37.2, as in kubernetes_control_plane"),
    ],
    ids=["all the same", "three minors older", "four minors older", "newer than the API", "another kubeadm"],
)
def test_versions_that_kubernetes_does_not_support_together_are_refused(versions, problem):
    """
    The limits are those of its version skew policy.
    """
    hosts = {
        name: host.model_copy(
            update={"roles": {**host.roles, "kubernetes_node": {**host.roles["kubernetes_node"], "version": version}}}
        )
        for name, host in CLUSTERED.fleet.hosts.items()
        for version in [versions.get(name, "1.37.2")]
    }
    stack = replace(CLUSTERED, fleet=CLUSTERED.fleet.model_copy(update={"hosts": hosts}))
    wrong = [f"{each.problem}; {each.expected}" for each in version_problems(stack)]
    assert wrong == ([problem] if problem else [])
