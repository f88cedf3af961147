"""The situations that a tier can be in, and how each is recognised: the table in docs/explanation/tiers.md."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rackwright.facts.facts import Facts
from rackwright.facts.storage import Array, Superblock
from rackwright.kinds.tier.growth import Growth, find_growth
from rackwright.kinds.tier.observe import find_array, find_superblocks, lingering_members, members_of
from rackwright.kinds.tier.owner_file import creation_is_unfinished
from rackwright.kinds.tier.replacement import Replacement, find_replacement, without_former
from rackwright.kinds.tier.spec import TierSpec


@dataclass(frozen=True)
class Blank:
    """The tier does not exist: no array, no superblock of one, and no owner file that speaks of one."""


@dataclass(frozen=True)
class HalfMade:
    """A creation ended before the filesystem was made, so nothing on the drives can be data."""

    array: Array | None
    is_whole: bool
    """True if the array runs over all declared drives: it is kept."""
    written_drives: frozenset[str]
    """Serials of the drives that the creation wrote to: the owner file names them, and they bear its superblock."""


@dataclass(frozen=True)
class StoppedArray:
    """The array does not run, and there may be data on its members."""

    array: Array | None
    """The array as the kernel knows it: inactive, or not at all."""
    superblocks: Mapping[str, Superblock]
    """Superblocks of the array, by the serial of the drive that bears them."""


@dataclass(frozen=True)
class AssembledArray:
    """An array that runs, whatever is to be done about it."""

    array: Array
    before: frozenset[str]
    """Serials of its members by the owner file; without one, by the superblocks."""
    detached: frozenset[str]
    """Serials of members that are in the machine with a superblock of the array, and are not in the array."""


@dataclass(frozen=True)
class Running(AssembledArray):
    """The array has the declared members, and as much of each as is declared."""

    lingering: tuple[str, ...]
    """Serials of drives whose places others have, and which no unit on the host lets go."""


@dataclass(frozen=True)
class Enlarging(AssembledArray):
    """The declared drives are all larger than what the array uses of each member."""

    lingering: tuple[str, ...]


@dataclass(frozen=True)
class Replacing(AssembledArray):
    """Other members are declared than the array has, or has noted."""

    replacement: Replacement
    is_larger: bool
    """True if the declared drives are all larger than what the array uses of each member."""


@dataclass(frozen=True)
class Growing(AssembledArray):
    """More members are declared than the array has places."""

    growth: Growth
    is_larger: bool


@dataclass(frozen=True)
class InterruptedReshape(AssembledArray):
    """A reshape was cut off, md does not go on with it, and the content of the array cannot be seen."""

    replacement: Replacement | None
    lingering: tuple[str, ...]
    is_larger: bool


Situation = Blank | HalfMade | StoppedArray | InterruptedReshape | Growing | Replacing | Enlarging | Running


def situation(spec: TierSpec, facts: Facts, owner: Mapping[str, Any]) -> Situation:
    """Return the situation of a tier.

    Args:
        owner: The content of the owner file; empty where there is none.

    Raises:
        UnknownFact: Facts that tell situations apart cannot be read.
    """
    array = find_array(facts, spec.array_key)
    superblocks = without_former(find_superblocks(facts, spec.array_key), spec.serials)
    present = _of_array(spec, facts, owner, array, superblocks) if array else StoppedArray(None, superblocks)
    if spec.declared.array is None and creation_is_unfinished(owner):
        is_whole = isinstance(present, AssembledArray) and members_of(facts, present.array) == tuple(
            sorted(spec.serials)
        )
        return HalfMade(array, is_whole, frozenset(owner.get("serials", ())) & superblocks.keys())
    if spec.declared.array is None and array is None and not superblocks and owner.get("phase") in (None, "removed"):
        return Blank()
    return present


def _of_array(
    spec: TierSpec, facts: Facts, owner: Mapping[str, Any], array: Array, superblocks: Mapping[str, Superblock]
) -> StoppedArray | InterruptedReshape | Growing | Replacing | Enlarging | Running:
    """Return the situation of an array that the kernel knows; one that cannot be read has none, running or not."""
    before = frozenset(owner.get("serials", _members_by_superblock(spec, facts, superblocks)))
    growth = find_growth(spec, facts, array)
    replacement = None if growth else find_replacement(spec, facts, array, before)
    lingering = lingering_members(facts, array, spec.array_key, spec.serials)
    if array.condition == "inactive":
        return StoppedArray(array, superblocks)
    absent = before - {*members_of(facts, array)}
    detached = frozenset(
        serial for serial, block in superblocks.items() if serial in absent and block.array_uuid == array.uuid
    )
    is_larger = members_are_larger(spec, array)
    if growth:
        return Growing(array, before, detached, growth, is_larger)
    if array.condition == "interrupted":
        return InterruptedReshape(array, before, detached, replacement, lingering, is_larger)
    if replacement:
        return Replacing(array, before, detached, replacement, is_larger)
    if is_larger:
        return Enlarging(array, before, detached, lingering)
    return Running(array, before, detached, lingering)


def members_are_larger(spec: TierSpec, array: Array) -> bool:
    """Return whether the declared drives are all larger than what the array uses of each member.

    RAID0 takes all of its members, and of an array that was taken over no size is declared.
    """
    return spec.declared.array is None and (spec.member_kib or 0) > array.member_bytes // 1024


def _members_by_superblock(spec: TierSpec, facts: Facts, superblocks: Mapping[str, Superblock]) -> set[str]:
    """Return the members that the drives themselves name.

    Declared drives that are absent count as members of an array that was taken over: nothing else names those, and a
    drive that comes for one takes its place.
    """
    absent = {serial for serial in spec.serials if spec.declared.array and facts.drive(serial) is None}
    return {*superblocks, *absent}
