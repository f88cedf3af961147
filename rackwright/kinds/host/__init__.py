"""The kind of a host: the declared machine and its hardware; owns nothing on the host."""

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
from rackwright.core.declared import Declared
from rackwright.core.repository import Repository
from rackwright.facts.facts import Facts
from rackwright.kinds.shared import observation
from rackwright.kinds.shared.drives import drive_claim, health_claims
from rackwright.kinds.shared.identity import identity_claim, refuse_wrong_machine
from rackwright.schema.catalogue import GPUS
from rackwright.schema.health import Health
from rackwright.schema.host import Drive
from rackwright.schema.profile import HardwareProfile, minimum

_PORT_REMEDY = "check that the port exists, or correct its PCI address"


class HostSpec(Resource):
    """The declared properties of a host."""

    identity: dict[str, str]
    """The value of serial, uuid, bmc_mac or device_tree_serial, as one entry."""
    os: str
    """The operating system."""
    profile: str
    """The profile, of the catalogue or of the fleet."""
    hardware: Declared[HardwareProfile] | None = None
    """The minimum hardware, where the fleet itself declares the profile."""
    drives: tuple[Declared[Drive], ...] = ()
    """All drives of the host."""
    macs: tuple[str, ...] = ()
    """MAC addresses of ports that are declared by them."""
    pci_addresses: tuple[str, ...] = ()
    """PCI addresses of ports that are declared by their slot."""
    health: Declared[Health] = Health()
    """Thresholds of the health of the drives."""
    mounts: tuple[str, ...] | None = None
    """Mount points of tiers that are provided from outside; None for none."""


class HostKind:
    """The kind of identity, operating system, profile, drives and ports."""

    token: ClassVar[str] = "rackwright:host:Host"
    spec = HostSpec

    def id(self, spec: HostSpec) -> str:
        return spec.host

    def claims(self, spec: HostSpec, repository: Repository) -> tuple[Claim, ...]:
        profile = minimum(spec.profile, spec.hardware)
        claims = [
            identity_claim(spec.host, spec.identity),
            Claim(
                f"host:{spec.host}",
                {"os": spec.os},
                owned=False,
                remedy="declare the operating system that the host runs, or find out why it runs another one",
            ),
            Claim(
                f"drives:{spec.host}",
                {"serials": Within(tuple(sorted(drive.serial for drive in spec.drives)))},
                owned=False,
                scope="kernel",
                remedy="find out the content and the user of the drive with `lsblk --fs`, then declare it in the fleet",
            ),
            # the tier claims its own drives
            *(drive_claim(drive, present=True) for drive in spec.drives if drive.tier is None),
            *health_claims(spec.host, (drive for drive in spec.drives if drive.tier is None), spec.health),
            *(
                Claim(f"nic:{mac}", {"present": True}, remedy="check that the port exists, or correct its MAC")
                for mac in spec.macs
            ),
            *(
                Claim(f"nic:{address}", {"present": True}, scope="hardware", remedy=_PORT_REMEDY)
                for address in spec.pci_addresses
            ),
        ]
        claims += [
            Claim(f"mount:{mount}", {"present": True}, owned=False, remedy="ask its provider to mount it again")
            for mount in spec.mounts or ()
        ]
        short = f"the host has less than profile {spec.profile}: add the missing hardware, or declare another profile"
        if (memory := profile.verified_value("memory")) is not None:
            claims.append(
                Claim(
                    f"memory:{spec.host}",
                    {"bytes": Between(memory)},
                    owned=False,
                    scope="hardware",
                    remedy=short,
                )
            )
        if gpus := profile.verified_value("gpus"):
            counts = {model: Between(count) for model, count in gpus.items()}
            claims.append(Claim(f"gpus:{spec.host}", counts, owned=False, scope="hardware", remedy=short))
        return tuple(claims)

    def observe(self, claims: Sequence[Claim], facts: Facts) -> Observation:
        return observation.observe(_observe_property, claims, facts)

    def report(self, spec: HostSpec, facts: Facts) -> dict[str, Any]:
        return {}

    def plan(self, spec: HostSpec, differences: Sequence[Difference], facts: Facts, repository: Repository) -> Plan:
        """Return refusals of another machine; any other difference in hardware needs manual work."""
        return Plan(refusals=refuse_wrong_machine(spec.host, differences), by_hand=tuple(differences))

    def removal(self, spec: HostSpec, facts: Facts, repository: Repository, consent: bool) -> Plan:
        return Plan()

    def consents(self, spec: HostSpec) -> bool:
        return True

    def rollout_group(self, spec: HostSpec) -> None:
        return None


def _observe_property(facts: Facts, sort: str, key: str, name: str, claim: Claim) -> Value:
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
            if not (ids := GPUS[name].verified_value("pci")):
                return UnknownValue(f"the catalogue has no PCI id of {GPUS[name].name}")
            return sum(function in ids for function in facts.pci)
