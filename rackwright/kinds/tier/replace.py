"""Other drives in the places of members: which, whether the array can bear it, and what is done.

A member that works is copied onto its successor before it goes, so redundancy never drops; one that is gone is rebuilt.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from rackwright.facts.facts import Facts
from rackwright.facts.storage import Array, Superblock
from rackwright.kinds.contract import Refusal, Run, WhenAtRest
from rackwright.kinds.tier import commands
from rackwright.kinds.tier.spec import TierSpec


@dataclass(frozen=True)
class Replacement:
    """Who takes whose place. Serials throughout."""

    lost: tuple[str, ...]
    """Members that do not work, and are not declared any more."""
    copied: tuple[str, ...]
    """Members that work, and are not declared any more."""
    dismissed: tuple[str, ...]
    """Spares that wait, and are not declared any more."""
    coming: tuple[str, ...]
    """Declared drives that have no place in the array yet: first those for *lost*."""
    spare: frozenset[str]
    """Of *coming*, those that were put into the array already."""
    begun: frozenset[str]
    """Of *copied*, those whose successor is in the array and being written."""

    @property
    def left(self) -> tuple[str, ...]:
        """Of *copied*, those whose copy was not begun yet."""
        return tuple(serial for serial in self.copied if serial not in self.begun)


def replacement(spec: TierSpec, facts: Facts, array: Array, before: frozenset[str]) -> Replacement | None:
    """Return what is to be replaced in a running array; None where its members stay.

    Args:
        before: The members it was made of, as far as that is known.
    """
    declared, serials = frozenset(spec.serials), {drive.name: drive.serial for drive in facts.drives}
    slots: dict[int, set[str]] = {}
    working: set[str] = set()
    for member in array.members:
        if "faulty" not in member.state and member.name in serials:
            working.add(serials[member.name])
            if member.slot is not None:
                slots.setdefault(member.slot, set()).add(serials[member.name])
    leaving = (before | working) - declared
    begun = {serial for sharing in slots.values() for serial in sharing & leaving if sharing & declared}
    if before == declared and leaving <= begun:
        return None
    placed = {serial for sharing in slots.values() for serial in sharing}
    return Replacement(
        lost=tuple(sorted(leaving - working)),
        copied=tuple(sorted(leaving & working & placed)),
        dismissed=tuple(sorted(leaving & working - placed)),
        coming=tuple(serial for serial in spec.serials if serial not in placed),
        spare=declared & working - placed,
        begun=frozenset(begun),
    )


def refusals(spec: TierSpec, array: Array, change: Replacement, before: frozenset[str]) -> Iterator[Refusal]:
    """Yield why *change* cannot be made.

    Args:
        before: Those that are its members or were, by its owner file; empty where that says nothing.
    """
    where = f"{spec.id}: members"
    strangers = sorted({*change.copied, *change.lost, *change.dismissed} - before)
    if strangers:
        got, want = f"got the members {', '.join(strangers)}", f"declared are {', '.join(spec.serials)}"
        yield Refusal(where, got, want, "Declare the drives the array has")
    elif len(spec.members) < array.devices:
        yield too_few(spec, array)
    elif spec.level == "raid0":
        got, want = (
            f"got {', '.join((*change.lost, *change.copied))} in {spec.name}",
            "RAID0 can spare none of its members",
        )
        yield Refusal(where, got, want, "Save the data, and declare another tier")
    elif array.condition in ("failed", "reshaping", "interrupted") and (change.left or change.coming):
        fix = "Look at it with `mdadm --detail`, and run again once it is whole"
        yield Refusal(where, f"got the array {array.condition}", "members are replaced in one that works", fix)
    elif change.left and (change.lost or array.degraded):
        missing = ", ".join(change.lost) or "a member"
        got = f"got {', '.join(change.left)}, which works, replaced while {missing} is missing"
        fix = "Replace the missing one first, and the others once it is rebuilt"
        yield Refusal(where, got, "a drive that comes now takes the missing one's place", fix)


def too_few(spec: TierSpec, array: Array) -> Refusal:
    got, want = f"got {array.devices} members", f"declared are {len(spec.members)}"
    return Refusal(f"{spec.id}: members", got, want, "Declare as many: a member is replaced, none is taken away")


def unsucceeded(spec: TierSpec, change: Replacement) -> Refusal:
    got, want = f"got {', '.join(change.left)}, which works, declared no more", "another drive takes its place"
    fix = "Declare it until what has fallen out is back in the array and waits, or declare another drive beside it"
    return Refusal(f"{spec.id}: members", got, want, fix)


def steps(
    spec: TierSpec,
    array: Array,
    change: Replacement,
    successors: tuple[str, ...],
    device: str,
    erased: Mapping[str, str],
) -> Iterator[Run]:
    """Yield what replaces members, all that comes being free.

    Args:
        successors: Those of ``change.coming`` that do not come back to places of their own.
        erased: What is on those that come by then, by serial.
    """
    arriving = tuple(serial for serial in successors if serial not in change.spare)
    if change.lost:
        yield Run(f"forget the absent members of {spec.name}", commands.forget(device))
    if arriving:
        # in one command: md would rebuild the first alone, and then the second
        members = tuple(f"${{drive:{serial}}}" for serial in arriving)
        argv = ("mdadm", "--manage", device, "--add", *members)
        yield Run(f"put {', '.join(arriving)} into {spec.name}", argv, expects=erased)
    for old, new in zip(change.left, successors[len(change.lost) :], strict=False):
        argv = ("mdadm", "--manage", device, "--replace", f"${{drive:{old}}}", "--with", f"${{drive:{new}}}")
        yield Run(f"copy {old} onto {new}, which takes its place in {spec.name}", argv)
    for spare in change.dismissed:
        yield Run(
            f"take {spare}, which waits, out of {spec.name}, and erase its md superblock",
            commands.dismiss(device, f"${{drive:{spare}}}"),
        )
    if change.copied:
        yield let_go(spec, array, change.copied, device)


def let_go(spec: TierSpec, array: Array, copied: Iterable[str], device: str) -> Run:
    drives = (f"${{drive-if-present:{serial}}}" for serial in copied)
    at_rest = WhenAtRest(spec.array_key, commands.waiting_unit("replace", spec.array_key))
    text = f"let {', '.join(copied)} go once that is done, and erase the md superblock"
    return Run(text, commands.let_go(device, array.uuid, drives), when_at_rest=at_rest)


def without_former(traces: Mapping[str, Superblock], declared: Collection[str]) -> dict[str, Superblock]:
    """Return *traces* without those of drives that were members once: the array has gone on without them."""
    events = [block.events for serial, block in traces.items() if serial in declared]
    return {
        serial: block
        for serial, block in traces.items()
        if serial in declared or not events or block.events >= min(events)
    }
