"""A host: the machine that was meant, with what it should have in it. Owns nothing on it."""

from collections.abc import Sequence
from typing import Any, ClassVar

from rackwright.core.contract import (
    Between,
    Claim,
    Difference,
    Observation,
    Plan,
    Resource,
    UnknownValue,
    Value,
    Within,
)
from rackwright.core.repository import Repository
from rackwright.facts.facts import Facts
from rackwright.kinds.shared import observation
from rackwright.kinds.shared.drives import DrivePart, HealthPart, drive_claim, health_claims
from rackwright.kinds.shared.identity import identity_claim, wrong_machine
from rackwright.schema.catalogue import GPUS, PROFILES


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


class HostKind:
    """Identity, operating system, profile, drives and ports."""

    token: ClassVar[str] = "rackwright:host:Host"
    spec = HostSpec

    def id(self, spec: HostSpec) -> str:
        return spec.host

    def claims(self, spec: HostSpec, repository: Repository) -> tuple[Claim, ...]:
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

    def observe(self, claims: Sequence[Claim], facts: Facts) -> Observation:
        return observation.observe(_look, claims, facts)

    def report(self, spec: HostSpec, facts: Facts) -> dict[str, Any]:
        return {}

    def plan(self, spec: HostSpec, differences: Sequence[Difference], facts: Facts, repository: Repository) -> Plan:
        """Refuse another machine or system; everything else about hardware only a person can mend."""
        return Plan(refusals=wrong_machine(spec.host, differences), by_hand=tuple(differences))

    def removal(self, spec: HostSpec, facts: Facts, repository: Repository, consent: bool) -> Plan:
        return Plan()

    def consents(self, spec: HostSpec) -> bool:
        return True

    def rollout_group(self, spec: HostSpec) -> None:
        return None


def _look(facts: Facts, sort: str, key: str, name: str, claim: Claim) -> Value:
    match sort:
        case "host":
            return facts.os if name == "os" else observation.identity(facts, name)
        case "drives":
            return tuple(sorted(drive.serial for drive in facts.drives))
        case "drive":
            return observation.drive(facts, key, name)
        case "nic":
            place = "." in key
            return facts.port(None if place else key, key if place else None) is not None
        case "memory":
            return facts.memory_bytes
        case "mount":
            return any(mount.target == key for mount in facts.mounts)
        case _:
            if not (ids := GPUS[name].known("pci")):
                return UnknownValue(f"the catalogue has no PCI id of {GPUS[name].name}")
            return sum(function in ids for function in facts.pci)
