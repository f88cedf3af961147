"""The kind of the paths from a host to its peers, the hosts that share an IP network: packet size there and back."""

from collections.abc import Sequence
from typing import Any, ClassVar

from rackwright.core.contract import (
    Between,
    Claim,
    Difference,
    Observation,
    Plan,
    Put,
    Remove,
    Resource,
    Scope,
    SpecPart,
    Value,
)
from rackwright.core.repository import Repository
from rackwright.facts.facts import Facts
from rackwright.facts.probe.paths import PEERS
from rackwright.facts.view import UnknownFact
from rackwright.kinds.shared import observation, ownership
from rackwright.kinds.shared.identity import identity_claim, refuse_wrong_machine

OWNER = "peers"
"""The name of its owner file."""


class PathPart(SpecPart):
    """The path to one address of a peer."""

    peer: str
    """The name of the other host."""
    to: str
    """The address of the peer."""
    own: str
    """The address of this host in the same network."""
    mtu: int
    """The size of packets that the path must carry, in bytes."""
    made: bool = False
    """Whether one end of the path is a bond or a VLAN."""


class PeersSpec(Resource):
    """The peers of a host."""

    fleet: str
    """The name of the fleet, which owns the resource."""
    identity: dict[str, str]
    """The identity of the machine: serial, uuid, bmc_mac or device_tree_serial, as one entry."""
    paths: tuple[PathPart, ...]
    """The paths to all other hosts in the host's networks."""

    @property
    def id(self) -> str:
        return f"{self.host}/{OWNER}"


class PeersKind:
    """The kind of the packet size on each path. It owns the probe's list of peers, and fixes no path."""

    token: ClassVar[str] = "rackwright:network:Peers"
    spec = PeersSpec

    def id(self, spec: PeersSpec) -> str:
        return spec.id

    def claims(self, spec: PeersSpec, repository: Repository) -> tuple[Claim, ...]:
        content = repository.digest(_text(spec, repository))
        return (
            identity_claim(spec.host, spec.identity),
            Claim(f"file:{PEERS}", {"content": content, "mode": "0644", "owner": "root:root"}),
            *map(_claim, spec.paths),
            Claim(f"owner:{OWNER}", {"id": spec.id, "fleet": spec.fleet, "phase": "ready"}),
        )

    def observe(self, claims: Sequence[Claim], facts: Facts) -> Observation:
        return observation.observe(_observe_property, claims, facts)

    def report(self, spec: PeersSpec, facts: Facts) -> dict[str, Any]:
        return {}

    def plan(self, spec: PeersSpec, differences: Sequence[Difference], facts: Facts, repository: Repository) -> Plan:
        """Return the plan that writes the list of peers. A path that drops packets needs manual work at a switch."""
        if refusals := (
            *refuse_wrong_machine(spec.host, differences),
            *ownership.refuse_foreign(spec.id, spec.fleet, OWNER, "list of peers", facts),
        ):
            return Plan(refusals=refusals)
        by_hand = tuple(item for item in differences if item.is_unknown or item.thing.startswith("path:"))
        if len(by_hand) == len(differences):
            return Plan(by_hand=by_hand)
        text = _text(spec, repository)
        steps = (
            Put(f"write {PEERS}", PEERS, text),
            Put(
                "note in the owner file: ready", _OWNER_FILE, ownership.owner_text(spec.id, spec.fleet, "ready"), 0o600
            ),
        )
        # the probe answers the unknown paths as soon as the list exists
        return Plan(steps, by_hand=tuple(item for item in by_hand if not item.is_unknown), texts={PEERS: text})

    def removal(self, spec: PeersSpec, facts: Facts, repository: Repository, consent: bool) -> Plan:
        if refusals := ownership.refuse_foreign(spec.id, spec.fleet, OWNER, "list of peers", facts):
            return Plan(refusals=refusals)
        if facts.owner(OWNER) is None:
            return Plan()
        return Plan(tuple(Remove(f"remove {path}", path) for path in (PEERS, _OWNER_FILE)))

    def consents(self, spec: PeersSpec) -> bool:
        """Return True: a removal loses no data."""
        return True

    def rollout_group(self, spec: PeersSpec) -> None:
        return None


_OWNER_FILE = ownership.owner_file(OWNER)


def _text(spec: PeersSpec, repository: Repository) -> str:
    return repository.render(f"peers{PEERS}.j2", peers=spec)


def _claim(path: PathPart) -> Claim:
    remedy = (
        f"check that the links at both ends have an MTU of {path.mtu}, then that each switch port on the path passes"
        f" {path.mtu}-byte packets and {path.peer} answers echoes"
    )
    scope: Scope = "kernel" if path.made else "host"
    return Claim(f"path:{path.peer}:{path.to}", {"mtu": Between(path.mtu)}, owned=False, scope=scope, remedy=remedy)


def _observe_property(facts: Facts, sort: str, key: str, name: str, claim: Claim) -> Value:
    match sort:
        case "host":
            return observation.identity(facts, name)
        case "file":
            return observation.file(facts, key, name)
        case "path":
            return _mtu(facts, key.partition(":")[2], claim)
        case _:
            return observation.owner(facts, key, name)


def _mtu(facts: Facts, address: str, claim: Claim) -> Value:
    path, want = facts.path(address), claim.want["mtu"]
    if path is None:
        raise UnknownFact(f"{PEERS} on the host does not name {address}")
    assert isinstance(want, Between) and want.low is not None
    if path.passed == path.asked < want.low:
        raise UnknownFact(f"{PEERS} on the host asks for no more than {path.asked} bytes")
    return path.passed
