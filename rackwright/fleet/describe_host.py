"""The declaration of an existing host, made from its facts; values that the facts lack are left out and noted."""

import re
from collections import Counter
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, count
from pathlib import PurePosixPath
from typing import Any, get_args

from pydantic import TypeAdapter, ValidationError

from rackwright.facts.facts import Facts
from rackwright.facts.network import LinkFacts
from rackwright.facts.storage import Array, DriveFacts, Mount
from rackwright.facts.view import UnknownFact
from rackwright.schema.catalogue import GPUS, PROFILES
from rackwright.schema.host import Identity, Name, Os
from rackwright.schema.port import Nic
from rackwright.schema.problem import Problem
from rackwright.schema.profile import Bus
from rackwright.schema.tier import DEFAULT_CHUNK, FilesystemType, Level, Tier, mount_unit
from rackwright.schema.units import format_size

DECLARABLE_OPTIONS = (
    "discard",
    "dirsync",
    "lazytime",
    "noatime",
    "nodev",
    "nodiratime",
    "noexec",
    "nosuid",
    "ro",
    "sync",
    "wsync",
)
"""Mount options that a fleet declares; most other options are the kernel's own defaults."""


@dataclass(frozen=True)
class HostDescription:
    """One existing host, as a fleet would declare it."""

    name: str
    """The host's own name, changed where a fleet does not accept it."""
    host: Mapping[str, Any]
    """The keys and values of a Host, without the address."""
    notes: tuple[str, ...]
    """Conclusions and omissions, for the operator to read."""


def describe_host(facts: Facts) -> HostDescription:
    """Return the declaration of the host that *facts* describe.

    Raises:
        UnknownFact: the facts lack the host's name, its drives or its ports.
    """
    notes: list[str] = []
    host: dict[str, Any] = {"identity": dict(_identity(facts, notes)), "os": facts.os}
    if facts.os not in get_args(Os):
        notes.append(f"{facts.os} is not a supported system; supported: {', '.join(get_args(Os))}")
    profile = _profile(facts, notes)
    if profile:
        host["profile"] = profile
    tiers: dict[str, _Tier] = {}
    for array in facts.arrays:
        if tier := _tier(facts, array, notes):
            tiers[tier.name if tier.name not in tiers else tier.whole_name] = tier
            notes += _boot_mount_notes(facts, tier)
    if tiers:
        host["tiers"] = {name: tier.fields for name, tier in tiers.items()}
    member_of = {member: name for name, tier in tiers.items() for member in tier.members}
    unwatched = frozenset(_drives_without_health(facts, notes))
    spares = frozenset(spare for tier in tiers.values() for spare in tier.spares)
    host["drives"] = [
        dict(_drive(drive, member_of.get(drive.name), spares, unwatched)) for drive in _drives_with_serial(facts, notes)
    ]
    nics = [dict(_nic(link)) for link in _ports(facts, notes)]
    if nics:
        host["nics"] = nics
    return HostDescription(_name(facts.identity.hostname), host, tuple(notes))


def unique_name(name: str, used: Container[str]) -> str:
    """Return *name*, with a number appended if it is among *used*."""
    return next(each for each in chain([name], (f"{name}-{n}" for n in count(2))) if each not in used)


def _name(hostname: str) -> str:
    try:
        return TypeAdapter(Name).validate_python(hostname.partition(".")[0])
    except (ValidationError, Problem):
        return re.sub(r"[^a-z0-9]+", "-", hostname.partition(".")[0].lower()).strip("-") or "host"


def identities(facts: Facts) -> Iterator[tuple[str, str]]:
    """Yield the identities of a host as (field, value), the strongest first, without placeholders."""
    for field in Identity.model_fields:
        try:
            yield Identity(**{field: getattr(facts.identity, field)}).strongest
        except ValidationError:
            continue


def _identity(facts: Facts, notes: list[str]) -> Iterator[tuple[str, str]]:
    """Yield the strongest identity."""
    strongest = next(identities(facts), None)
    if strongest is None:
        notes.append(f"the host has no identity of its own: no {', no '.join(Identity.model_fields)}")
    else:
        yield strongest


def _profile(facts: Facts, notes: list[str]) -> str | None:
    """Return the profile with the most GPUs that the host fits; None if it fits none."""
    models = {id: model for model, gpu in GPUS.items() for id in gpu.verified_value("pci") or ()}
    counts = Counter(models[function] for function in facts.pci if function in models)
    has = ", ".join(
        [
            *(f"{count} × {GPUS[model].name}" for model, count in counts.items()),
            f"{format_size(facts.memory_bytes)} of memory",
        ]
    )
    fitting = {
        name: sum(profile.gpus.values())
        for name, profile in PROFILES.items()
        if profile.gpus
        and all(counts[model] >= count for model, count in profile.gpus.items())
        and facts.memory_bytes >= (profile.memory or 0)
    }
    if not fitting:
        notes.append(f"no profile is written: the host has {has}, which fits none of the catalogue")
        return None
    best = max(fitting, key=fitting.__getitem__)
    notes.append(f"profile {best}: the host has {has}")
    return best


@dataclass(frozen=True)
class _Tier:
    """A tier as a fleet declares it, and its drives by the kernel's names."""

    fields: dict[str, Any]
    members: frozenset[str]
    spares: frozenset[str]
    """The members that are spares."""
    own_name: str | None = None
    """The name that rackwright gave the tier; None if another tool created it."""

    @property
    def name(self) -> str:
        """The tier's own name, or the last part of its mount point."""
        return self.own_name or _name(PurePosixPath(self.fields["mount"]).name)

    @property
    def whole_name(self) -> str:
        """The whole mount point as a name, for a second tier with the same last part."""
        return _name(self.fields["mount"].strip("/"))


def _tier(facts: Facts, array: Array, notes: list[str]) -> _Tier | None:
    """Return *array* as a tier; None, with a note, if a fleet cannot declare it."""
    try:
        tier = _tier_or_reason(facts, array)
    except UnknownFact as reason:
        tier = str(reason)
    if isinstance(tier, _Tier):
        return tier
    notes.append(f"{array.md_name or array.name} ({array.name}) cannot be declared as a tier: {tier}")
    return None


def _tier_or_reason(facts: Facts, array: Array) -> _Tier | str:
    mount = next((each for each in facts.mounts if each.device == array.name), None)
    filesystem = next((each for each in facts.filesystems if each.device == array.name), None)
    members = frozenset(member.name for member in array.members)
    if array.level not in get_args(Level):
        return f"its level is {array.level}"
    if filesystem is None and any(header.device == array.name for header in facts.luks_headers):
        return "it is encrypted, and rackwright cannot find out how it is opened"
    if filesystem is None or mount is None:
        return "it is not mounted as a whole" if filesystem else "it has no filesystem as a whole"
    if filesystem.type not in get_args(FilesystemType):
        return f"it has {filesystem.type}"
    if other := members - {drive.name for drive in facts.drives}:
        return f"its member {', '.join(sorted(other))} is not a whole drive of this host"
    fields = dict(_tier_fields(array, filesystem.type, mount, _own_tier_name(facts, array) is None))
    try:
        Tier(**fields)
    except ValidationError as error:
        return str(error.errors()[0].get("ctx", {}).get("error", error))
    spares = frozenset(spare.name for spare in array.spares)
    return _Tier(fields, members, spares, _own_tier_name(facts, array))


def _own_tier_name(facts: Facts, array: Array) -> str | None:
    """Return the name of the tier if rackwright created *array*; None if another tool did."""
    host, _, name = array.md_name.partition(":")
    owner = facts.owner(f"tier-{name}") if name else None
    return name if owner and (owner.get("id"), owner.get("phase")) == (f"{host}/{name}", "ready") else None


def _boot_mount_notes(facts: Facts, tier: "_Tier") -> Iterator[str]:
    """Yield a note if no enabled unit of systemd mounts *tier* at boot."""
    mount = tier.fields["mount"]
    try:
        unit = facts.unit(mount_unit(mount))
        comes_back = unit is not None and unit.enabled in ("enabled", "generated")
    except UnknownFact as reason:
        yield f"rackwright cannot tell whether {mount} is mounted at boot: {reason}"
        return
    if not comes_back:
        yield f"no unit of systemd mounts {mount} at boot; systemd reads /etc/fstab at `daemon-reload`"


def _tier_fields(array: Array, filesystem: str, mount: Mount, foreign: bool) -> Iterator[tuple[str, Any]]:
    if foreign:
        yield "array", array.uuid
    yield from {"level": array.level, "filesystem": filesystem, "mount": mount.target}.items()
    if array.level != "raid1" and array.chunk_bytes != DEFAULT_CHUNK:
        yield "chunk", format_size(array.chunk_bytes)
    if array.level == "raid5" and array.ppl:
        yield "ppl", True
    elif array.level != "raid0" and array.bitmap == "none":
        yield "bitmap", False
    options = [option for option in mount.options if option in DECLARABLE_OPTIONS]
    if options != ["noatime"]:
        yield "options", options


def _drives_with_serial(facts: Facts, notes: list[str]) -> Iterator[DriveFacts]:
    """Yield the drives that have a serial number."""
    for drive in facts.drives:
        if drive.serial:
            yield drive
        else:
            notes.append(f"the drive {drive.name} ({drive.model}) is left out: it reports no serial number")


def _drives_without_health(facts: Facts, notes: list[str]) -> Iterator[str]:
    """Yield the kernel's names of the drives that report no health; virtual drives are left out, as they have none."""
    for drive in facts.drives:
        try:
            if drive.bus != "virtio":
                drive.health.passed  # noqa: B018
        except UnknownFact as reason:
            notes.append(f"the health of {drive.serial} is not watched: {reason}")
            yield drive.name


def _drive(
    drive: DriveFacts, tier: str | None, spares: Container[str], unwatched: Container[str]
) -> Iterator[tuple[str, Any]]:
    yield "serial", drive.serial
    if drive.bus in get_args(Bus):
        yield "bus", drive.bus
    yield "size", format_size(drive.size_bytes)
    if tier:
        yield "tier", tier
        if drive.name in spares:
            yield "spare", True
    elif any(target == "/" or target.startswith("/boot") for target in drive.mountpoints):
        yield "boot", True
    if drive.name in unwatched:
        yield "watched", False


def _ports(facts: Facts, notes: list[str]) -> Iterator[LinkFacts]:
    for link in facts.links:
        if link.kind == "physical":
            yield link
        elif link.kind in ("bond", "vlan"):
            notes.append(
                f"{link.name}, a {link.kind}, is left out: rackwright creates the links that `network` declares"
            )


def _nic(link: LinkFacts) -> Iterator[tuple[str, Any]]:
    yield "name", link.name
    yield "mac", link.permanent_mac
    if link.mtu != Nic.model_fields["mtu"].default:
        yield "mtu", link.mtu
    if link.addresses:
        yield "addresses", list(link.addresses)
