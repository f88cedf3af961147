"""The claims of declared drives: bus, size, and the health that they report."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rackwright.core.contract import Between, Claim, Scope
from rackwright.schema.health import ANY, Health
from rackwright.schema.host import Drive

TOLERANCE = 0.01
"""Allowed relative deviation of a drive's size from its label: vendors round, and firmware reserves blocks."""


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


def drive_claim(drive: Drive, **more: bool) -> Claim:
    """Return the claim that a drive has the declared bus and size."""
    want: dict[str, Any] = dict(more)
    if drive.bus is not None:
        want["bus"] = drive.bus
    if drive.size is not None:
        slack = int(drive.size * TOLERANCE)
        want["size_bytes"] = Between(drive.size - slack, drive.size + slack)
    remedy = "check the drive's label, then correct the drive or its line in the fleet"
    absent = "the drive is not in the machine: check its bay, its cable and its label, and leave the other drives in"
    return Claim(f"drive:{drive.serial}", want, scope="kernel", remedy=remedy, remedy_absent=absent)


def health_claims(host: str, drives: Iterable[Drive], health: Health) -> Iterator[Claim]:
    """Yield the claims about the drives' own health reports; virtio drives report none."""
    for drive in drives:
        if drive.watched and drive.bus != "virtio":
            yield from _health_claims(host, drive, health)


def _health_claims(host: str, drive: Drive, health: Health) -> Iterator[Claim]:
    thing, remedy = f"drive:{drive.serial}", _FAILING.format(host=host, serial=drive.serial)
    # among the drives of a twin, only those on NVMe report their health
    scope: Scope = "kernel" if drive.bus == "nvme" else "hardware"
    yield Claim(thing, {"health": "passed"}, scope=scope, remedy=remedy, remedy_unknown=_HEALTH_UNKNOWN)
    limits = {name: getattr(health, name) for name in HEALTH_COUNTERS.get(drive.bus, ())}
    if counters := {name: Between(None, limit) for name, limit in limits.items() if limit != ANY}:
        yield Claim(thing, counters, scope=scope, severity="warning", remedy=remedy, remedy_unknown=_HEALTH_UNKNOWN)
