"""The admission policies for accounts of nodes: root of one node gets nothing of other nodes, teams or the cluster.

An account of a node is that of its kubelet. NodeRestriction of Kubernetes lets it make mirror pods in each namespace,
change labels by which pods are placed, and write objects of any size. These policies take that away.
"""

import json
from collections.abc import Iterator, Sequence

from rackwright.kinds.cluster import fairness
from rackwright.kinds.cluster.admission import SIZE_VARIABLES, policy, rule, size_expression
from rackwright.kinds.cluster.quantity import Object
from rackwright.schema.cluster import HOSTNAME_LABEL

COMPONENTS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
"""The static pods of a control plane, as kubeadm names them."""
OWN_LABELS = ("beta.kubernetes.io/arch", "beta.kubernetes.io/os", "kubernetes.io/arch", "kubernetes.io/os")
"""Labels that a kubelet sets from its own system, beside its host name. rackwright places nothing by them."""
EVENT_BYTES = 8 << 10
"""Most bytes of an event that a node writes. Those of kubelet have about 1 KiB."""
NODE_BYTES = 128 << 10
"""Most bytes of any other object that a node writes. A node with the names of 50 images has about 30 KiB."""
_NODES = "request.userInfo.groups.exists(group, group == 'system:nodes')"
_JOINING = "request.userInfo.groups.exists(group, group in ['system:nodes', 'system:bootstrappers'])"
_NEW, _OLD = "object.metadata.?labels.orValue({})", "variables.old"
_OLD_LABELS = "request.operation == 'UPDATE' ? oldObject.metadata.?labels.orValue({}) : {}"


def objects(planes: Sequence[str]) -> Iterator[Object]:
    """Yield the policies for the accounts of all nodes, their bindings to the whole cluster, and their share of events.

    Args:
        planes: The nodes of the control plane, whose kubelets show their static pods in the API.
    """
    pods = [rule("", "v1", ("pods",), ("CREATE",))]
    yield from policy("rackwright-nodes-pods", pods, [_pod_check(planes)], _NODES, {}, everywhere=True)
    nodes = [rule("", "v1", ("nodes", "nodes/status"))]
    yield from policy(
        "rackwright-nodes-labels", nodes, [*_label_checks()], _NODES, {"old": _OLD_LABELS}, everywhere=True
    )
    events = [rule(group, "v1", ("events",)) for group in ("", "events.k8s.io")]
    checks = [(size_expression(EVENT_BYTES), f"an event of a node has at most {EVENT_BYTES} bytes")]
    yield from policy("rackwright-nodes-events", events, checks, _NODES, SIZE_VARIABLES, everywhere=True)
    checks = [(size_expression(NODE_BYTES), f"an object that a node writes has at most {NODE_BYTES} bytes")]
    yield from policy(
        "rackwright-nodes-size", [rule("*", "*", ("*/*",))], checks, _JOINING, SIZE_VARIABLES, everywhere=True
    )
    yield from fairness.node_objects()


def _pod_check(planes: Sequence[str]) -> tuple[str, str]:
    """Return the check that a node makes no pod but those that show its own static pods of a control plane."""
    labels = "object.metadata.?labels.orValue({})"
    return (
        f"request.namespace == 'kube-system' && {json.dumps(sorted(planes))}.exists(plane,"
        f" request.userInfo.username == 'system:node:' + plane && {json.dumps(COMPONENTS)}.exists(component,"
        " object.metadata.?name.orValue('') == component + '-' + plane"
        f" && {labels}.size() == 2 && {labels}[?'component'].orValue('') == component"
        f" && {labels}[?'tier'].orValue('') == 'control-plane'))",
        "nodes make no pods: only those of control planes show their static pods of kubeadm, with its names and labels",
    )


def _label_checks() -> Iterator[tuple[str, str]]:
    own = json.dumps(OWN_LABELS)
    host = json.dumps(HOSTNAME_LABEL)
    yield (
        f"{_NEW}.all(key, key in {own} || (key in {_OLD} && {_OLD}[key] == {_NEW}[key])"
        f" || (key == {host} && {_NEW}[key] == object.metadata.name))",
        "nodes set no labels but their host name, which is their own name, and their system",
    )
    yield (
        f"{_OLD}.all(key, key in {own} || key in {_NEW})",
        "nodes remove none of their labels",
    )
