"""The kind of a node: a host that has joined the declared cluster, as one that runs pods or as a further control plane.

The control plane makes a certificate of the node for an hour when a host joins, and the host forgets it when it has
joined: kubelet then makes a key of its own. No plan, state or log ever has the credentials.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

from rackwright.core.contract import (
    Absent,
    Claim,
    Command,
    Difference,
    Observation,
    OneOf,
    Plan,
    Put,
    PutOutput,
    Remove,
    Resource,
    Value,
)
from rackwright.core.repository import Repository
from rackwright.errors import Diagnostic
from rackwright.facts.facts import Facts
from rackwright.facts.probe.kubernetes import MARK
from rackwright.kinds.cluster import further_plane, join_files
from rackwright.kinds.shared import observation, ownership
from rackwright.kinds.shared.identity import identity_claim, refuse_wrong_machine

OWNER = "node"
"""The name of its owner file."""
JOIN_SECONDS = 900
"""Time for joining, which on a busy host includes the unpacking of images."""
_OWNER_FILE = ownership.owner_file(OWNER)
_JOIN = (
    """\
set -eu
umask 077
trap 'rm -f "$2" "$3"' EXIT
"""
    + join_files.NODE
    + """\
umask 022
# what a run that was cut has left, and the kernel of a container, which is that of another computer
ignored=FileAvailable--etc-kubernetes-pki-ca.crt,FileAvailable--etc-kubernetes-bootstrap-kubelet.conf,Port-10250
if systemd-detect-virt --container --quiet; then ignored=$ignored,SystemVerification; fi
kubeadm join --config "$3" --ignore-preflight-errors="$ignored"
"""
)
"""Script of host $1 that joins with the credentials $2, by a configuration that it writes into $3."""
_SETTLE = """\
set -eu
export KUBECONFIG=/etc/kubernetes/kubelet.conf
tries=0  # kubelet registers the node some time after it has joined
until kubectl get node "$1" --output=name 2> /dev/null; do
  [ $((tries += 1)) -le 120 ] || { echo "the node has not registered within two minutes" >&2; exit 1; }
  sleep 1
done
kubectl annotate --overwrite node "$1" "$2"
kubectl wait --for=condition=Ready "node/$1" --timeout=300s
"""
"""Script of node $1 that marks it with $2, and waits until it is ready."""
LEAVE = """\
set -eu
export KUBECONFIG=/etc/kubernetes/admin.conf
[ -n "$(kubectl get node "$1" --ignore-not-found --output=name)" ] || exit 0
kubectl drain "$1" --ignore-daemonsets --timeout=500s
kubectl delete node "$1"
"""
"""Script of the control plane that moves the pods of a node elsewhere; it fails where a pod would lose its data."""


class NodeSpec(Resource):
    """The membership of a host in a cluster."""

    fleet: str
    """The name of the fleet, which owns the resource."""
    identity: dict[str, str]
    """The identity of the machine: serial, uuid, bmc_mac or device_tree_serial, as one entry."""
    cluster: str
    """The name of the cluster."""
    control_plane: str
    """The host that admits the node."""
    endpoint: str
    """The address and port of the API."""
    api_address: str = ""
    """The address at which the host serves the API, if it is a further control plane; empty for any other host."""

    @property
    def servers(self) -> tuple[str, ...]:
        """The URLs of the API that its kubelet may ask; that of a control plane asks its own host."""
        own = (further_plane.url(self.api_address),) if self.api_address else ()
        return (f"https://{self.endpoint}", *own)

    @property
    def id(self) -> str:
        return f"{self.host}/{OWNER}"

    @property
    def thing(self) -> str:
        """The name of the membership in claims."""
        return f"node:{self.host}"


class NodeKind:
    """The kind of a node of a Kubernetes cluster. A host joins with a certificate of its own node."""

    token: ClassVar[str] = "rackwright:kubernetes:Node"
    spec = NodeSpec

    def id(self, spec: NodeSpec) -> str:
        return spec.id

    def claims(self, spec: NodeSpec, repository: Repository) -> tuple[Claim, ...]:
        remedy = "find out which cluster the host has joined, and by whom"
        return (
            identity_claim(spec.host, spec.identity),
            Claim(
                spec.thing,
                {"server": spec.servers[0] if len(spec.servers) == 1 else OneOf(spec.servers)},
                remedy=remedy,
                remedy_absent="",
            ),
            *(further_plane.claims() if spec.api_address else ()),
            Claim("unit:kubelet.service", {"active": "active"}, owned=False, remedy="look at its journal"),
            Claim(f"owner:{OWNER}", {"id": spec.id, "fleet": spec.fleet, "phase": "ready"}),
        )

    def observe(self, claims: Sequence[Claim], facts: Facts) -> Observation:
        return observation.observe(_observe_property, claims, facts)

    def report(self, spec: NodeSpec, facts: Facts) -> dict[str, Any]:
        return {}

    def plan(self, spec: NodeSpec, differences: Sequence[Difference], facts: Facts, repository: Repository) -> Plan:
        """Return the plan that lets the host join. A host that has joined another cluster is refused."""
        if refusals := (
            *refuse_wrong_machine(spec.host, differences),
            *ownership.refuse_foreign(spec.id, spec.fleet, OWNER, "membership in a cluster", facts),
            *_refuse_other_cluster(spec, differences),
        ):
            return Plan(refusals=refusals)
        by_name = {item.path: item for item in differences}
        by_hand = tuple(item for item in differences if item.is_unknown)
        joins = isinstance(getattr(by_name.get(f"{spec.thing}.server"), "actual", None), Absent) or (
            further_plane.JOINING in by_name
        )
        stopped = by_name.get("unit:kubelet.service.active")
        if by_hand or not differences:
            return Plan(by_hand=by_hand)
        begun, ready = (
            Put(
                f"note in the owner file: {phase}",
                _OWNER_FILE,
                ownership.owner_text(spec.id, spec.fleet, phase),
                0o600,
            )
            for phase in ("joining", "ready")
        )
        join = (begun, *_join(spec)) if joins else ()
        start = (Command("start kubelet", ("systemctl", "start", "kubelet.service")),) if stopped and not joins else ()
        return Plan((*join, *start, _settle(spec), ready))

    def removal(self, spec: NodeSpec, facts: Facts, repository: Repository, consent: bool) -> Plan:
        """Return the plan that moves the pods elsewhere and lets the host leave, unless a pod would lose data.

        A control plane stays in the cluster: its member of etcd has to leave first, which a person does.
        """
        if refusals := ownership.refuse_foreign(spec.id, spec.fleet, OWNER, "membership in a cluster", facts):
            return Plan(refusals=refusals)
        if facts.owner(OWNER) is None:
            return Plan()
        if spec.api_address:
            notes = (f"{spec.host} stays a control plane of {spec.cluster}",)
            return Plan((Remove(f"remove {_OWNER_FILE}", _OWNER_FILE),), notes=notes)
        leave = ("sh", "-c", LEAVE, "sh", spec.host)
        return Plan(
            (
                PutOutput(f"drain the node on {spec.control_plane}, and remove it", spec.control_plane, leave, ""),
                Command(f"leave cluster {spec.cluster}", ("kubeadm", "reset", "--force")),
                Remove(f"remove {_OWNER_FILE}", _OWNER_FILE),
            )
        )

    def consents(self, spec: NodeSpec) -> bool:
        """Return True: a drain ends with an error where a pod would lose data."""
        return True

    def rollout_group(self, spec: NodeSpec) -> str:
        return f"cluster {spec.cluster}"


def _join(spec: NodeSpec) -> tuple[PutOutput | Command, ...]:
    if spec.api_address:
        return further_plane.join(spec.host, spec.cluster, spec.control_plane, spec.endpoint, spec.api_address)
    invite = ("sh", "-c", join_files.INVITE, "sh", spec.host, spec.endpoint)
    join = ("sh", "-c", _JOIN, "sh", spec.host, join_files.CREDENTIALS, join_files.ENTRY)
    return (
        PutOutput(
            f"get a certificate of the node from {spec.control_plane} for an hour",
            spec.control_plane,
            invite,
            join_files.CREDENTIALS,
            120,
        ),
        Command(f"join cluster {spec.cluster}", join, timeout_seconds=JOIN_SECONDS),
    )


def _settle(spec: NodeSpec) -> Command:
    settle = ("sh", "-c", _SETTLE, "sh", spec.host, f"{MARK}={spec.fleet}")
    return Command("mark the node, and wait until it is ready", settle, timeout_seconds=JOIN_SECONDS)


def _refuse_other_cluster(spec: NodeSpec, differences: Sequence[Difference]) -> tuple[Diagnostic, ...]:
    return tuple(
        Diagnostic(
            spec.id,
            f"the host is a node of the cluster at {item.actual}",
            f"https://{spec.endpoint}, or no cluster",
            "Drain the node there and delete it, run `kubeadm reset` on the host, then run the same command again",
            "a node that changes its cluster loses its pods",
            id="other-cluster",
        )
        for item in differences
        if item.thing == spec.thing and not isinstance(item.actual, Absent) and not item.is_unknown
    )


def _observe_property(facts: Facts, sort: str, key: str, name: str, claim: Claim) -> Value:
    if sort != "node":
        return observation.service(facts, sort, key, name)
    joined = facts.joined_cluster
    return Absent() if joined is None else joined.server
