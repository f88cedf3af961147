"""A host: the machine that was meant, with what it should have in it. Owns nothing on it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from rackwright.facts.facts import Facts
from rackwright.kinds import observing
from rackwright.kinds.contract import (
    Absent,
    Between,
    Claim,
    Difference,
    Found,
    Part,
    Plan,
    Refusal,
    Resource,
    Scope,
    Unknown,
    Value,
    Within,
)
from rackwright.kinds.house import House
from rackwright.spec.catalogue import GPUS, PROFILES

TOLERANCE = 0.01
"""A drive's size holds within 1 % of its label: makers round, and firmware reserves."""


class DrivePart(Part):
    """A declared drive."""

    serial: str
    bus: str | None = None
    size_bytes: int | None = None
    tier: str | None = None
    watched: bool = True


class HealthPart(Part):
    """The most that drives may count of what they suffer; None: it does not matter."""

    pending_sectors: int | None = None
    media_errors: int | None = None
    wear_percent: int | None = None


COUNTED: Mapping[str | None, tuple[str, ...]] = {
    "nvme": ("media_errors", "wear_percent"),
    "sas": ("media_errors", "wear_percent"),
    "sata": ("pending_sectors", "media_errors", "wear_percent"),
}
"""What drives of each bus count. Of one whose bus is not declared only its own verdict is wanted."""


class HostSpec(Resource):
    """What a host is declared to be."""

    identity: dict[str, str]
    """One entry: serial, uuid, bmc_mac or device_tree_serial, and its value."""
    os: str
    profile: str
    drives: tuple[DrivePart, ...] = ()
    macs: tuple[str, ...] = ()
    pci_addresses: tuple[str, ...] = ()
    """Of ports that are found by where they sit."""
    health: HealthPart | None = None
    """None: the health of its drives is not looked at."""
    mounts: tuple[str, ...] | None = None
    """Of tiers that somebody else provides; None for none."""


def identity_claim(host: str, identity: dict[str, str]) -> Claim:
    """Return the claim that this is the machine that was meant; every kind that writes to a host needs it."""
    return Claim(f"host:{host}", identity, owned=False, scope="kernel", remedy=_ANOTHER)


def drive_claim(part: DrivePart, **more: bool) -> Claim:
    """Return the claim that a drive is of the declared sort, where it is there."""
    want: dict[str, Any] = dict(more)
    if part.bus is not None:
        want["bus"] = part.bus
    if part.size_bytes is not None:
        slack = int(part.size_bytes * TOLERANCE)
        want["size_bytes"] = Between(part.size_bytes - slack, part.size_bytes + slack)
    remedy = "look at the drive's label, then correct the drive or its line"
    absent = "the drive is not in the machine: look at its bay, its cable and its label, and leave the others in"
    return Claim(f"drive:{part.serial}", want, scope="kernel", remedy=remedy, remedy_absent=absent)


def health_claims(host: str, parts: Iterable[DrivePart], health: HealthPart | None) -> Iterator[Claim]:
    """Yield what is claimed of drives' own account of their state; virtual ones have none to give."""
    for part in parts:
        if health is not None and part.watched and part.bus != "virtio":
            yield from _health_claims(host, part, health)


def _health_claims(host: str, part: DrivePart, health: HealthPart) -> Iterator[Claim]:
    thing, remedy = f"drive:{part.serial}", _FAILING.format(host=host, serial=part.serial)
    # of the drives of a twin, those on NVMe alone tell of themselves
    scope: Scope = "kernel" if part.bus == "nvme" else "hardware"
    yield Claim(thing, {"health": "passed"}, scope=scope, remedy=remedy, remedy_unknown=_UNASKED)
    limits = {name: getattr(health, name) for name in COUNTED.get(part.bus, ())}
    if counted := {name: Between(None, limit) for name, limit in limits.items() if limit is not None}:
        yield Claim(thing, counted, scope=scope, severity="warning", remedy=remedy, remedy_unknown=_UNASKED)


def wrong_machine(host: str, differences: Sequence[Difference]) -> tuple[Refusal, ...]:
    """Return a refusal when a machine answers that was not meant."""
    return tuple(
        Refusal(
            f"{host}: {item.name}",
            f"got {_said(item.found)}",
            f"the fleet says {item.want}",
            OTHERWISE.format(host=host),
        )
        for item in differences
        if item.thing == f"host:{host}" and not item.unknown
    )


_FAILING = (
    "a drive that fails is replaced by a person: put another one in beside it, and name that with"
    " `rackwright drive replace STACK {host} {serial} NEW`; the drive stays in until its copy is complete"
)
_UNASKED = (
    "find out why the drive does not answer: smartctl or nvme-cli has to be on the host, as smartmontools of"
    " base_packages of role base"
)
_ANOTHER = (
    "another machine answers at this address: correct the address, or, once its mainboard was replaced, the identity"
    " with `rackwright host reidentify STACK HOST`"
)
OTHERWISE = (
    "Nothing is written to it. Correct hosts.{host} in the fleet, or the machine; once its mainboard was replaced,"
    " with `rackwright host reidentify STACK {host}`"
)
"""How a person mends that another machine answers than *host*."""


def _said(found: Value) -> str:
    return "none" if isinstance(found, Absent) else str(found)


class HostKind:
    """Identity, operating system, profile, drives and ports."""

    token: ClassVar[str] = "rackwright:host:Host"
    spec = HostSpec

    def id(self, spec: HostSpec) -> str:
        return spec.host

    def claims(self, spec: HostSpec, house: House) -> tuple[Claim, ...]:
        profile = PROFILES[spec.profile]
        claims = [
            identity_claim(spec.host, spec.identity),
            Claim(
                f"host:{spec.host}",
                {"os": spec.os},
                owned=False,
                remedy="declare the operating system that runs there, or find out why it is another one",
            ),
            Claim(
                f"drives:{spec.host}",
                {"serials": Within(tuple(sorted(part.serial for part in spec.drives)))},
                owned=False,
                scope="kernel",
                remedy="look with `lsblk --fs` what the drive is and who uses it, then declare it in the fleet",
            ),
            # a drive of a tier is claimed by its tier
            *(drive_claim(part, present=True) for part in spec.drives if part.tier is None),
            *health_claims(spec.host, (part for part in spec.drives if part.tier is None), spec.health),
            *(
                Claim(f"nic:{mac}", {"present": True}, remedy="look for the port, or correct its MAC")
                for mac in spec.macs
            ),
            *(
                Claim(f"nic:{address}", {"present": True}, scope="hardware", remedy="look for the port, or correct it")
                for address in spec.pci_addresses
            ),
        ]
        claims += [
            Claim(f"mount:{mount}", {"present": True}, owned=False, remedy="let who provides it mount it again")
            for mount in spec.mounts or ()
        ]
        short = f"the host falls short of profile {spec.profile}: add what is missing, or declare another profile"
        if (memory := profile.known("memory")) is not None:
            claims.append(
                Claim(
                    f"memory:{spec.host}",
                    {"bytes": Between(memory)},
                    owned=False,
                    scope="hardware",
                    remedy=short,
                )
            )
        if gpus := profile.known("gpus"):
            counts = {model: Between(count) for model, count in gpus.items()}
            claims.append(Claim(f"gpus:{spec.host}", counts, owned=False, scope="hardware", remedy=short))
        return tuple(claims)

    def observe(self, claims: Sequence[Claim], facts: Facts) -> Found:
        return observing.observe(_look, claims, facts)

    def report(self, spec: HostSpec, facts: Facts) -> dict[str, Any]:
        return {}

    def plan(self, spec: HostSpec, differences: Sequence[Difference], facts: Facts, house: House) -> Plan:
        """Refuse another machine or system; everything else about hardware only a person can mend."""
        return Plan(refusals=wrong_machine(spec.host, differences), by_hand=tuple(differences))

    def removal(self, spec: HostSpec, facts: Facts, house: House, consent: bool) -> Plan:
        return Plan()

    def consents(self, spec: HostSpec) -> bool:
        return True

    def wave(self, spec: HostSpec) -> None:
        return None


def _look(facts: Facts, sort: str, key: str, name: str, claim: Claim) -> Value:
    match sort:
        case "host":
            return facts.os if name == "os" else observing.identity(facts, name)
        case "drives":
            return tuple(sorted(drive.serial for drive in facts.drives))
        case "drive":
            return observing.drive(facts, key, name)
        case "nic":
            place = "." in key
            return facts.port(None if place else key, key if place else None) is not None
        case "memory":
            return facts.memory_bytes
        case "mount":
            return any(mount.target == key for mount in facts.mounts)
        case _:
            if not (ids := GPUS[name].known("pci")):
                return Unknown(f"the catalogue has no PCI id of {GPUS[name].name}")
            return sum(function in ids for function in facts.pci)
