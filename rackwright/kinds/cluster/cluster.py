"""The kind of a Kubernetes cluster: its version, nodes and teams, as its API describes them.

The API is read on the control plane, or by its URL in a provided cluster whose control plane is no host of the fleet.
"""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

from pydantic import Field

from rackwright.core.contract import (
    REMEDY_UNKNOWN,
    Absent,
    Claim,
    Command,
    Difference,
    EndpointSource,
    Observation,
    Plan,
    Source,
    Spec,
    SpecPart,
    Value,
    Want,
)
from rackwright.core.repository import Repository
from rackwright.facts.facts import Facts
from rackwright.facts.kubernetes import NodeFacts
from rackwright.facts.probe.kubernetes import JOIN_SECRETS, PLANE_LABEL
from rackwright.facts.view import UnknownFact
from rackwright.kinds.cluster import controllers, team
from rackwright.kinds.cluster.node import LEAVE
from rackwright.kinds.cluster.node_admission import COMPONENTS
from rackwright.kinds.shared import observation
from rackwright.kinds.shared.identity import identity_claim, refuse_wrong_machine
from rackwright.schema.cluster import HOSTNAME_LABEL, NODE_ROLE_TAINT, OF_KUBERNETES

_KUBECTL = ("kubectl", "--kubeconfig", "/etc/kubernetes/admin.conf", "--request-timeout=60s")
PROXY = "addon:kube-proxy"
"""The addon whose version is that of the cluster; it changes when all nodes have the new images."""
_ADDONS = Command(
    "bring kube-proxy and CoreDNS to the version of the cluster",
    ("kubeadm", "init", "phase", "addon", "all", "--config", "/etc/rackwright/kubernetes/kubeadm.yaml"),
)
_TOKENS = "tokens:kubeadm"
"""The tokens by which hosts join: with one of them, its holder gets the identity of any node."""
_TOKENS_REMEDY = "find out who made them, unless a host joins now; then run `rackwright up`, which ends their use"
DELETE_TOKENS = Command(
    "delete the tokens of earlier joins",
    (
        *(*_KUBECTL, "delete", "secrets", "--namespace=kube-system"),
        f"--field-selector=type={JOIN_SECRETS}",
        "--ignore-not-found",
    ),
)
_NODES_REMEDY = (
    "an undeclared node: find out who added it, then declare it or remove it with `kubectl drain` and `kubectl delete"
    " node`; a missing node: run `rackwright up`, which lets it join"
)
ADMISSION = "admission:kube-apiserver"
"""The admission plugins that all API servers of the cluster enable by their options."""
ADMISSION_PLUGINS = ("DenyServiceExternalIPs", "EventRateLimit", "NodeRestriction")
_ADMISSION_REMEDY = (
    "find out who changed the API server; then run `kubeadm init phase control-plane apiserver --config"
    " /etc/rackwright/kubernetes/kubeadm.yaml` on each control plane, which starts it again"
)
_COMPONENT_REMEDY = (
    "look at `kubectl get pods --namespace kube-system --output wide`, and at `systemctl status kubelet` on the missing"
    " host; etcd stops when half of its members are lost"
)
_PROVIDED_REMEDY = (
    "find out who changed the cluster, and why; then correct it with those who run it, or the declaration of it"
)
_UNREAD_REMEDY = (
    "give the account of the token the right to list these objects in the whole cluster, and run the same command again"
)
_PRESSURE_REMEDY = (
    "free what the node lacks, which `kubectl describe node` names; until then kubelet ends pods there, "
    "and no new ones come"
)
_READY_REMEDY = "look at `systemctl status kubelet containerd` on the host, and at `kubectl describe node`"


class NodePart(SpecPart):
    """A node as it is declared."""

    name: str
    """The name of the host."""
    version: str
    """The version of its kubelet: v1.37.2."""
    labels: tuple[str, ...] = ()
    """Labels as NAME=VALUE, sorted; without those of Kubernetes itself."""
    taints: tuple[str, ...] = ()
    """Taints as kubectl writes them, sorted."""

    @property
    def thing(self) -> str:
        """The name of the node in claims."""
        return f"node:{self.name}"


class ClusterSpec(Spec):
    """A cluster."""

    host: str | None = None
    """The host with the control plane, which gives the facts and runs the steps; None if the API itself gives them."""
    fleet: str
    """The name of the fleet."""
    identity: dict[str, str] = Field(default_factory=dict)
    """The identity of the machine with the control plane: serial, uuid, bmc_mac or device_tree_serial."""
    name: str
    """The name of the cluster."""
    provided: bool = False
    """Whether others made the cluster and change it."""
    version: str
    """The version of the API server: v1.37.2."""
    nodes: tuple[NodePart, ...]
    """All nodes, the control planes first."""
    control_planes: tuple[str, ...] = ()
    """The hosts of the control plane, if there are several."""
    teams: tuple[team.TeamPart, ...] = ()
    """The teams with their namespaces."""
    queue: bool = False
    """Whether runs wait in queues, by Kueue."""
    groups: bool = False
    """Whether a replica of a server may have several pods, by LeaderWorkerSet."""
    metrics: bool = False
    """Whether the cluster measures what pods use, by Metrics Server."""

    @property
    def facts_source(self) -> Source:
        return self.host or EndpointSource("kubernetes", self.name)

    @property
    def planes(self) -> tuple[str, ...]:
        """All nodes of the control plane of a cluster that rackwright makes; none of a provided one."""
        return () if self.provided or self.host is None else self.control_planes or (self.host,)

    @property
    def is_only_compared(self) -> bool:
        return self.provided

    @property
    def id(self) -> str:
        return f"{self.host or self.name}/cluster"


class ClusterKind:
    """The kind of a Kubernetes cluster: its version, and its nodes and no others, each ready and as declared."""

    token: ClassVar[str] = "rackwright:kubernetes:Cluster"
    spec = ClusterSpec

    def id(self, spec: ClusterSpec) -> str:
        return spec.id

    def claims(self, spec: ClusterSpec, repository: Repository) -> tuple[Claim, ...]:
        names = tuple(sorted(node.name for node in spec.nodes))
        return (
            *((identity_claim(spec.host, spec.identity),) if spec.host else ()),
            Claim(
                f"cluster:{spec.name}",
                {"version": spec.version, "nodes": names},
                remedy=_PROVIDED_REMEDY if spec.provided else _NODES_REMEDY,
                remedy_unknown=_remedy_unknown(spec),
            ),
            *(() if spec.provided else (Claim(PROXY, {"version": spec.version}),)),
            *(() if spec.provided else (Claim(_TOKENS, {"join_tokens": ()}, remedy=_TOKENS_REMEDY),)),
            *(() if spec.provided else (Claim(ADMISSION, {"plugins": ADMISSION_PLUGINS}, remedy=_ADMISSION_REMEDY),)),
            *(
                Claim(f"component:{name}", {"ready_on": tuple(sorted(spec.control_planes))}, remedy=_COMPONENT_REMEDY)
                for name in (COMPONENTS if spec.control_planes else ())
            ),
            *(_claim(spec, node) for node in spec.nodes),
            *(controllers.claims(controllers.QUEUE) if spec.queue else ()),
            *(controllers.claims(controllers.GROUPS) if spec.groups else ()),
            *(controllers.claims(controllers.METRICS) if spec.metrics else ()),
            *(_of_source(spec, claim) for claim in team.claims(spec.teams, spec.planes)),
        )

    def observe(self, claims: Sequence[Claim], facts: Facts) -> Observation:
        return observation.observe(partial(_observe_property, team.names_in(claims)), claims, facts)

    def report(self, spec: ClusterSpec, facts: Facts) -> dict[str, Any]:
        return {}

    def plan(self, spec: ClusterSpec, differences: Sequence[Difference], facts: Facts, repository: Repository) -> Plan:
        """Return the plan that sets labels, taints and objects and ends cordons; the rest needs manual work.

        A provided cluster is never changed.
        """
        if spec.host and (refusals := refuse_wrong_machine(spec.host, differences)):
            return Plan(refusals=refusals)
        if spec.provided:
            return Plan(by_hand=tuple(differences))
        nodes = (step for node in spec.nodes for step in _steps(node, differences, facts))
        leaving = _leaving(spec, differences, facts)
        by_hand = tuple(
            item for item in differences if not _is_corrected(item) and not (leaving and item.name == "nodes")
        )
        leave = (_leave(name) for name in leaving)
        addons = (_ADDONS,) if any(item.thing == PROXY and not item.is_unknown for item in differences) else ()
        tokens = (DELETE_TOKENS,) if any(item.thing == _TOKENS and _is_known(item) for item in differences) else ()
        objects = (*controllers.steps(differences), *team.steps(spec.teams, spec.planes, differences))
        return Plan((*tokens, *addons, *nodes, *objects, *leave), by_hand=by_hand)

    def removal(self, spec: ClusterSpec, facts: Facts, repository: Repository, consent: bool) -> Plan:
        """Return an empty plan: the cluster is in the roles and nodes of its hosts."""
        return Plan()

    def consents(self, spec: ClusterSpec) -> bool:
        """Return True: a removal loses no data."""
        return True

    def rollout_group(self, spec: ClusterSpec) -> None:
        return None


def _remedy_unknown(spec: ClusterSpec) -> str:
    return REMEDY_UNKNOWN if spec.host else _UNREAD_REMEDY


def _of_source(spec: ClusterSpec, claim: Claim) -> Claim:
    """Return the claim on an object of a team with the advice for the origin of its facts."""
    remedy = claim.remedy or (_PROVIDED_REMEDY if spec.provided else "")
    return replace(claim, remedy=remedy, remedy_unknown=_remedy_unknown(spec))


def _claim(spec: ClusterSpec, node: NodePart) -> Claim:
    want: dict[str, Want] = {
        "ready": True,
        "pressure": (),
        "schedulable": True,
        "version": node.version,
        "labels": node.labels,
        "taints": node.taints,
    }
    if not spec.provided:
        want["hostname"] = node.name
    remedies = {"ready": _READY_REMEDY, "pressure": _PRESSURE_REMEDY}
    if not spec.provided:
        remedies["version"] = "run `rackwright up`; if it stays, restart kubelet on the host"
    return Claim(
        node.thing,
        want,
        remedy=_PROVIDED_REMEDY if spec.provided else "",
        remedies=remedies,
        remedy_absent=_PROVIDED_REMEDY if spec.provided else _READY_REMEDY,
        remedy_unknown=_remedy_unknown(spec),
    )


def _leaving(spec: ClusterSpec, differences: Sequence[Difference], facts: Facts) -> tuple[str, ...]:
    """Return the undeclared nodes, if all of them joined for this fleet, and no declared node is missing."""
    if not any(item.name == "nodes" and _is_known(item) for item in differences) or facts.cluster is None:
        return ()
    declared, found = {node.name for node in spec.nodes}, facts.cluster.names
    undeclared = tuple(name for name in found if name not in declared)
    try:
        nodes = [facts.cluster.node(name) for name in undeclared]
        # a control plane has a member of etcd, which leaves before its node
        ours = all(node is not None and node.fleet == spec.fleet and PLANE_LABEL not in node.labels for node in nodes)
    except UnknownFact:
        return ()
    return undeclared if ours and declared <= {*found} else ()


def _leave(name: str) -> Command:
    return Command(f"drain {name}, and remove it", ("sh", "-c", LEAVE, "sh", name))


def _is_corrected(item: Difference) -> bool:
    """Return whether the plan corrects *item*, and needs no person for it."""
    if item.thing.startswith("object:") or item.thing in (PROXY, *controllers.ALL):
        return not item.is_unknown
    return item.name in ("labels", "hostname", "taints", "schedulable", "join_tokens") and _is_known(item)


def _is_known(item: Difference) -> bool:
    return not item.is_unknown and not isinstance(item.actual, Absent)


def _steps(node: NodePart, differences: Sequence[Difference], facts: Facts) -> Iterator[Command]:
    names = {item.name for item in differences if item.thing == node.thing and _is_known(item)}
    found = facts.cluster.node(node.name) if names and facts.cluster else None
    if found is None:
        return
    if "labels" in names:
        yield _change(node, "label", node.labels, _labels(found), "=")
    if "hostname" in names:
        label = f"{HOSTNAME_LABEL}={node.name}"
        yield Command(f"label {node.name}: {label}", (*_KUBECTL, "label", "nodes", node.name, "--overwrite", label))
    if "taints" in names:
        yield _change(node, "taint", node.taints, _taints(found), "")
    if "schedulable" in names:
        yield Command(f"uncordon {node.name}", (*_KUBECTL, "uncordon", node.name))


def _change(node: NodePart, verb: str, wanted: Sequence[str], found: Sequence[str], end: str) -> Command:
    """Return the command that sets the labels or taints that are missing, and removes the undeclared ones.

    Args:
        end: Beginning of the part of a label that a removal does not name.
    """
    added = [item for item in wanted if item not in found]
    kept = {_key(item, end) for item in wanted}
    removed = [f"{_key(item, end)}-" for item in found if item not in wanted and _key(item, end) not in kept]
    argv = (*_KUBECTL, verb, "nodes", node.name, "--overwrite", *added, *removed)
    return Command(f"{verb} {node.name}: {shlex.join((*added, *removed))}", argv)


def _key(item: str, end: str) -> str:
    """Return the part of a label or taint by which it is removed: the name, for a taint with its effect."""
    if end:
        return item.partition(end)[0]
    name, _, effect = item.rpartition(":")
    return f"{name.partition('=')[0]}:{effect}"


def _labels(node: NodeFacts) -> tuple[str, ...]:
    return tuple(f"{name}={value}" for name, value in node.labels.items() if not OF_KUBERNETES.match(name))


def _taints(node: NodeFacts) -> tuple[str, ...]:
    """Return the taints that people set, and those of control planes; the others follow from the state of the node."""
    return tuple(item for item in node.taints if item.startswith(NODE_ROLE_TAINT) or not OF_KUBERNETES.match(item))


def _observe_property(declared: frozenset[str], facts: Facts, sort: str, key: str, name: str, claim: Claim) -> Value:
    if sort == "host":
        return observation.identity(facts, name)
    cluster = facts.cluster
    if cluster is None:
        return Absent()
    if sort in ("object", "namespace"):
        return team.observe(cluster, declared, sort, key, name)
    if sort == controllers.SORT:
        return controllers.observe(cluster, key, name)
    if sort == "addon":
        return cluster.addon_version(key) or Absent()
    if sort == "tokens":
        return cluster.join_tokens
    if sort == "admission":
        found = cluster.admission_plugins
        return Absent() if found is None else found
    if sort == "component":
        return cluster.ready_on(key) or Absent()
    if sort == "cluster":
        return cluster.version if name == "version" else cluster.names
    node = cluster.node(key)
    if node is None:
        return Absent()
    values: dict[str, Value] = {
        "labels": _labels(node),
        "hostname": node.labels.get(HOSTNAME_LABEL, ""),
        "taints": _taints(node),
        "pressure": node.pressure,
    }
    if name in values:
        return values[name]
    if name == "ready":
        return node.ready
    return node.schedulable if name == "schedulable" else node.version
