"""Declared drives as claims: their sort, and the health that they report."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rackwright.core.contract import Between, Claim, Part, Scope

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


_FAILING = (
    "a drive that fails is replaced by a person: put another one in beside it, and name that with"
    " `rackwright drive replace STACK {host} {serial} NEW`; the drive stays in until its copy is complete"
)
_UNASKED = (
    "find out why the drive does not answer: smartctl or nvme-cli has to be on the host, as smartmontools of"
    " base_packages of role base"
)


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
