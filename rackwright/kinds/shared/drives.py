"""The claims of declared drives: bus, size, and the health that they report."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rackwright.core.contract import Between, Claim, Scope, SpecPart

TOLERANCE = 0.01
"""Allowed relative deviation of a drive's size from its label: vendors round, and firmware reserves blocks."""


class DrivePart(SpecPart):
    """A declared drive."""

    serial: str
    bus: str | None = None
    size_bytes: int | None = None
    tier: str | None = None
    watched: bool = True


class HealthPart(SpecPart):
    """The upper limits of the health counters; None: no limit."""

    pending_sectors: int | None = None
    media_errors: int | None = None
    wear_percent: int | None = None


HEALTH_COUNTERS: Mapping[str | None, tuple[str, ...]] = {
    "nvme": ("media_errors", "wear_percent"),
    "sas": ("media_errors", "wear_percent"),
    "sata": ("pending_sectors", "media_errors", "wear_percent"),
}
"""The health counters of drives, by bus. A drive without a declared bus has only its own verdict as a claim."""


_FAILING = (
    "replace the failing drive: insert a new drive beside it, then run"
    " `rackwright drive replace STACK {host} {serial} NEW`; leave the old drive in until the copy is complete"
)
_HEALTH_UNKNOWN = (
    "find out why the drive does not answer: the host needs smartctl or nvme-cli; add smartmontools to base_packages"
    " of role base"
)


def drive_claim(part: DrivePart, **more: bool) -> Claim:
    """Return the claim that a drive has the declared bus and size."""
    want: dict[str, Any] = dict(more)
    if part.bus is not None:
        want["bus"] = part.bus
    if part.size_bytes is not None:
        slack = int(part.size_bytes * TOLERANCE)
        want["size_bytes"] = Between(part.size_bytes - slack, part.size_bytes + slack)
    remedy = "check the drive's label, then correct the drive or its line in the fleet"
    absent = "the drive is not in the machine: check its bay, its cable and its label, and leave the other drives in"
    return Claim(f"drive:{part.serial}", want, scope="kernel", remedy=remedy, remedy_absent=absent)


def health_claims(host: str, parts: Iterable[DrivePart], health: HealthPart | None) -> Iterator[Claim]:
    """Yield the claims about the drives' own health reports; virtio drives report none."""
    for part in parts:
        if health is not None and part.watched and part.bus != "virtio":
            yield from _health_claims(host, part, health)


def _health_claims(host: str, part: DrivePart, health: HealthPart) -> Iterator[Claim]:
    thing, remedy = f"drive:{part.serial}", _FAILING.format(host=host, serial=part.serial)
    # among the drives of a twin, only those on NVMe report their health
    scope: Scope = "kernel" if part.bus == "nvme" else "hardware"
    yield Claim(thing, {"health": "passed"}, scope=scope, remedy=remedy, remedy_unknown=_HEALTH_UNKNOWN)
    limits = {name: getattr(health, name) for name in HEALTH_COUNTERS.get(part.bus, ())}
    if counters := {name: Between(None, limit) for name, limit in limits.items() if limit is not None}:
        yield Claim(thing, counters, scope=scope, severity="warning", remedy=remedy, remedy_unknown=_HEALTH_UNKNOWN)
