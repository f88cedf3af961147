"""A host's lines of a fleet's file, written down from its facts. What facts do not tell is left out, and said."""

import re
from collections import Counter
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, count
from pathlib import PurePosixPath
from typing import Any, get_args

from pydantic import TypeAdapter, ValidationError

from rackwright.facts.facts import Facts, Link
from rackwright.facts.storage import Array, Drive, Mount
from rackwright.facts.view import UnknownFact
from rackwright.schema.catalogue import GPUS, PROFILES
from rackwright.schema.host import Bus, Identity, Name, Os
from rackwright.schema.port import Nic
from rackwright.schema.problem import Problem
from rackwright.schema.tier import DEFAULT_CHUNK, FilesystemType, Level, Tier, mount_unit
from rackwright.schema.units import format_size

CHOSEN = ("discard", "dirsync", "lazytime", "noatime", "nodev", "nodiratime", "noexec", "nosuid", "ro", "sync", "wsync")
"""Options of a mount that somebody has asked for; most others are what the kernel says by itself."""


@dataclass(frozen=True)
class Discovered:
    """What one host is, as a fleet declares it."""

    name: str
    """The host's own name, as far as a fleet can take it."""
    host: Mapping[str, Any]
    """Its lines, without the address: the keys of a Host."""
    notes: tuple[str, ...]
    """What was concluded, and what could not be written down; for a person to read."""


def discovered(facts: Facts) -> Discovered:
    """Return what *facts* say of a host.

    Raises:
        UnknownFact: the facts do not tell what its name, its drives or its ports are.
    """
    notes: list[str] = []
    host: dict[str, Any] = {"identity": dict(_identity(facts, notes)), "os": facts.os}
    if facts.os not in get_args(Os):
        notes.append(f"{facts.os} is a system that is not known here: {', '.join(get_args(Os))} are")
    profile = _profile(facts, notes)
    if profile:
        host["profile"] = profile
    tiers: dict[str, _Tier] = {}
    for array in facts.arrays:
        if tier := _tier(facts, array, notes):
            tiers[tier.name if tier.name not in tiers else tier.whole_name] = tier
            notes += _at_boot(facts, tier)
    if tiers:
        host["tiers"] = {name: tier.declared for name, tier in tiers.items()}
    member_of = {member: name for name, tier in tiers.items() for member in tier.members}
    unasked = frozenset(_unasked(facts, notes))
    waiting = frozenset(spare for tier in tiers.values() for spare in tier.spares)
    host["drives"] = [dict(_drive(drive, member_of.get(drive.name), waiting, unasked)) for drive in _told(facts, notes)]
    nics = [dict(_nic(link)) for link in _ports(facts, notes)]
    if nics:
        host["nics"] = nics
    return Discovered(_name(facts.identity.hostname), host, tuple(notes))


def free(name: str, taken: Container[str]) -> str:
    """Return *name*, with a number behind it where that is taken."""
    return next(each for each in chain([name], (f"{name}-{n}" for n in count(2))) if each not in taken)


def _name(hostname: str) -> str:
    try:
        return TypeAdapter(Name).validate_python(hostname.partition(".")[0])
    except (ValidationError, Problem):
        return re.sub(r"[^a-z0-9]+", "-", hostname.partition(".")[0].lower()).strip("-") or "host"


def identities(facts: Facts) -> Iterator[tuple[str, str]]:
    """Yield what a host is known by and is no placeholder, as (field, value), the strongest first."""
    for field in Identity.model_fields:
        try:
            yield Identity(**{field: getattr(facts.identity, field)}).strongest
        except ValidationError:
            continue


def _identity(facts: Facts, notes: list[str]) -> Iterator[tuple[str, str]]:
    """Yield the strongest identity."""
    strongest = next(identities(facts), None)
    if strongest is None:
        notes.append(f"it has no identity of its own: no {', no '.join(Identity.model_fields)}")
    else:
        yield strongest


def _profile(facts: Facts, notes: list[str]) -> str | None:
    """Return the profile that asks for most of what the host has; None where none fits."""
    models = {id: model for model, gpu in GPUS.items() for id in gpu.known("pci") or ()}
    there = Counter(models[function] for function in facts.pci if function in models)
    has = ", ".join(
        [
            *(f"{count} × {GPUS[model].name}" for model, count in there.items()),
            f"{format_size(facts.memory_bytes)} of memory",
        ]
    )
    fitting = {
        name: sum(profile.gpus.values())
        for name, profile in PROFILES.items()
        if profile.gpus
        and all(there[model] >= count for model, count in profile.gpus.items())
        and facts.memory_bytes >= (profile.memory or 0)
    }
    if not fitting:
        notes.append(f"no profile is written: none of the catalogue asks for {has}")
        return None
    best = max(fitting, key=fitting.__getitem__)
    notes.append(f"profile {best}: it has {has}")
    return best


@dataclass(frozen=True)
class _Tier:
    """A tier, and by the kernel's names what it is made of."""

    declared: dict[str, Any]
    members: frozenset[str]
    spares: frozenset[str]
    """Of its members, those that wait for a place."""
    own_name: str | None = None
    """What we have called it; None where somebody else has made it."""

    @property
    def name(self) -> str:
        """Its own, or the last part of where it is mounted."""
        return self.own_name or _name(PurePosixPath(self.declared["mount"]).name)

    @property
    def whole_name(self) -> str:
        """All of where it is mounted, for the second whose last part is the same."""
        return _name(self.declared["mount"].strip("/"))


def _tier(facts: Facts, array: Array, notes: list[str]) -> _Tier | None:
    """Return the tier that *array* is; None for what a fleet cannot say, and a note."""
    try:
        found = _tier_or_reason(facts, array)
    except UnknownFact as reason:
        found = str(reason)
    if isinstance(found, _Tier):
        return found
    notes.append(f"{array.md_name or array.name} ({array.name}) is no tier that can be declared: {found}")
    return None


def _tier_or_reason(facts: Facts, array: Array) -> _Tier | str:
    mount = next((each for each in facts.mounts if each.device == array.name), None)
    filesystem = next((each for each in facts.filesystems if each.device == array.name), None)
    members = frozenset(member.name for member in array.members)
    if array.level not in get_args(Level):
        return f"its level is {array.level}"
    if filesystem is None and any(header.device == array.name for header in facts.luks_headers):
        return "it is encrypted, and what opens it cannot be found"
    if filesystem is None or mount is None:
        return "it is not mounted as a whole" if filesystem else "it has no filesystem as a whole"
    if filesystem.type not in get_args(FilesystemType):
        return f"it has {filesystem.type}"
    if other := members - {drive.name for drive in facts.drives}:
        return f"of its members {', '.join(sorted(other))} is no whole drive that is there"
    declared = dict(_declared(array, filesystem.type, mount, _owned(facts, array) is None))
    try:
        Tier(**declared)
    except ValidationError as error:
        return str(error.errors()[0].get("ctx", {}).get("error", error))
    spares = frozenset(spare.name for spare in array.spares)
    return _Tier(declared, members, spares, _owned(facts, array))


def _owned(facts: Facts, array: Array) -> str | None:
    """Return the name of the tier that we have made of *array*; None where somebody else has made it."""
    host, _, name = array.md_name.partition(":")
    owner = facts.owner(f"tier-{name}") if name else None
    return name if owner and (owner.get("id"), owner.get("phase")) == (f"{host}/{name}", "ready") else None


def _at_boot(facts: Facts, tier: "_Tier") -> Iterator[str]:
    """Yield a note where systemd knows of nothing that mounts it when the host starts."""
    mount = tier.declared["mount"]
    try:
        unit = facts.unit(mount_unit(mount))
        comes_back = unit is not None and unit.enabled in ("enabled", "generated")
    except UnknownFact as reason:
        yield f"whether {mount} is mounted at boot is not known: {reason}"
        return
    if not comes_back:
        yield f"systemd has nothing that mounts {mount} at boot; lines of /etc/fstab it reads at `daemon-reload`"


def _declared(array: Array, filesystem: str, mount: Mount, theirs: bool) -> Iterator[tuple[str, Any]]:
    if theirs:
        yield "array", array.uuid
    yield from {"level": array.level, "filesystem": filesystem, "mount": mount.target}.items()
    if array.level != "raid1" and array.chunk_bytes != DEFAULT_CHUNK:
        yield "chunk", format_size(array.chunk_bytes)
    if array.level == "raid5" and array.ppl:
        yield "ppl", True
    elif array.level != "raid0" and array.bitmap == "none":
        yield "bitmap", False
    options = [option for option in mount.options if option in CHOSEN]
    if options != ["noatime"]:
        yield "options", options


def _told(facts: Facts, notes: list[str]) -> Iterator[Drive]:
    """Yield the drives that have a serial to be named by."""
    for drive in facts.drives:
        if drive.serial:
            yield drive
        else:
            notes.append(f"the drive {drive.name} ({drive.model}) is left out: it tells no serial number")


def _unasked(facts: Facts, notes: list[str]) -> Iterator[str]:
    """Yield the drives that cannot be asked about their health, by the kernel's names; virtual ones have none."""
    for drive in facts.drives:
        try:
            if drive.bus != "virtio":
                drive.health.passed  # noqa: B018
        except UnknownFact as reason:
            notes.append(f"the health of {drive.serial} is not watched: {reason}")
            yield drive.name


def _drive(
    drive: Drive, tier: str | None, waiting: Container[str], unasked: Container[str]
) -> Iterator[tuple[str, Any]]:
    yield "serial", drive.serial
    if drive.bus in get_args(Bus):
        yield "bus", drive.bus
    yield "size", format_size(drive.size_bytes)
    if tier:
        yield "tier", tier
        if drive.name in waiting:
            yield "spare", True
    elif any(target == "/" or target.startswith("/boot") for target in drive.mountpoints):
        yield "boot", True
    if drive.name in unasked:
        yield "watched", False


def _ports(facts: Facts, notes: list[str]) -> Iterator[Link]:
    for link in facts.links:
        if link.kind == "physical":
            yield link
        elif link.kind in ("bond", "vlan"):
            notes.append(f"{link.name}, a {link.kind}, is left out: what is declared under `network` is set up anew")


def _nic(link: Link) -> Iterator[tuple[str, Any]]:
    yield "name", link.name
    yield "mac", link.permanent_mac
    if link.mtu != Nic.model_fields["mtu"].default:
        yield "mtu", link.mtu
    if link.addresses:
        yield "addresses", list(link.addresses)
