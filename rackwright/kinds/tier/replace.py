"""The replacement of members by other drives.

A member that works is copied onto its successor before it goes, so redundancy never drops; one that is gone is rebuilt.
"""

from collections.abc import Iterator, Mapping, Sequence

from rackwright.core.contract import Command, Plan
from rackwright.errors import Diagnostic
from rackwright.kinds.tier import commands, drives, enlarge, fill, members, owner_file, repair
from rackwright.kinds.tier.inputs import PlanInputs
from rackwright.kinds.tier.replacement import Replacement
from rackwright.kinds.tier.situation import AssembledArray, InterruptedReshape, Replacing


def replace(inputs: PlanInputs, replacing: Replacing) -> Plan:
    """Return the plan that gives members successors; these are blank or consented."""
    spec, array, replacement = inputs.spec, replacing.array, replacing.replacement
    coming = successors(inputs, replacing, replacement)
    to_add = [serial for serial in coming if serial not in replacement.newcomers_in_array]
    change, not_free = refusals(inputs, replacing, replacement), _newcomer_refusals(inputs, replacement, coming, to_add)
    if refused := repair.assembled_refusals(inputs, replacing, change, not_free):
        return Plan(refusals=refused)
    free, gains_room = drives.present(inputs, to_add), array.condition == "reshaping" and spec.level != "raid1"
    steps = (
        *members.change_steps(inputs, replacing, "replacing", free),
        *exchange_steps(inputs, replacing, replacement, coming, drives.content_after_wipe(free)),
        *fill.schedule_fill_steps(spec, gains_room),
        *repair.repair_steps(inputs, replacing),
        *fill.wait_steps(spec),
        *(enlarge.enlarge_at_rest_steps(spec) if replacing.is_larger else ()),
        *fill.fill_steps(inputs, gains_room),
        owner_file.note_ready(inputs),
    )
    notes = (*map(drives.describe, free), *repair.spares_in_use(inputs, replacing))
    return Plan(steps, by_hand=repair.manual_differences(inputs, replacing, restored=True), notes=notes)


def refusals(
    inputs: PlanInputs, present: Replacing | InterruptedReshape, replacement: Replacement
) -> Iterator[Diagnostic]:
    """Yield why members cannot be replaced."""
    spec, array, owner = inputs.spec, present.array, inputs.owner
    if present.is_larger:
        yield from enlarge.refusals(spec, array, completes=True)
    where = f"{spec.id}: members"
    noted_members = present.before if spec.declared.array else frozenset(owner.get("serials", ()))
    leaving = (*replacement.working_members, *replacement.failed_members, *replacement.idle_spares)
    unknown_members = sorted({*leaving} - noted_members - owner_file.former_members(spec, owner))
    if unknown_members:
        problem = f"the array has {', '.join(unknown_members)}, which no owner file names as a member"
        expected = f"the declared members {', '.join(spec.serials)}"
        yield Diagnostic(where, problem, expected, "Declare the drives that the array has")
    elif len(spec.members) < array.devices:
        yield from repair.place_refusals(spec, array)
    elif spec.level == "raid0":
        leaving = (*replacement.failed_members, *replacement.working_members)
        problem = f"{', '.join(leaving)} would leave {spec.name}, which is raid0"
        yield Diagnostic(where, problem, "all members of a raid0", "Save the data, and declare another tier")
    elif array.condition in ("failed", "reshaping", "interrupted") and (
        replacement.copies_to_begin or replacement.newcomers
    ):
        help = "Look at it with `mdadm --detail`, and run again when it has all members and rests"
        problem = f"members would be replaced while the array is {array.condition}"
        yield Diagnostic(where, problem, "an array that works and has no reshape", help, id="array-busy")
    elif replacement.copies_to_begin and (replacement.failed_members or array.degraded):
        missing = ", ".join(replacement.failed_members) or "a member"
        problem = f"{', '.join(replacement.copies_to_begin)} works, and would be replaced while {missing} is missing"
        help = "Replace the missing member first, and the others after its rebuild"
        note = "a drive that comes now takes the place of the missing member"
        yield Diagnostic(where, problem, help=help, note=note, id="array-busy")


def _newcomer_refusals(
    inputs: PlanInputs, replacement: Replacement, coming: Sequence[str], to_add: Sequence[str]
) -> Iterator[Diagnostic]:
    """Yield why the drives that come cannot be taken: too few of them, or not free."""
    if len(coming) < len(replacement.copies_to_begin):
        problem = f"{', '.join(replacement.copies_to_begin)} works, is no longer declared, and has no successor"
        help = "Declare it until the member that fell out is back in the array, or declare another drive as well"
        expected = "a declared drive for the place of each member that leaves"
        yield Diagnostic(f"{inputs.spec.id}: members", problem, expected, help)
    else:
        yield from drives.refusals(inputs, to_add)


def successors(inputs: PlanInputs, assembled: AssembledArray, replacement: Replacement) -> tuple[str, ...]:
    """Return the newcomers that take others' places, or wait for one.

    Other newcomers return to a place of their own, or are gone. One that is gone counts if a member that works needs a
    successor, and is refused then.
    """
    returning = repair.returning_members(inputs, assembled)
    coming = tuple(serial for serial in replacement.newcomers if serial not in returning)
    if replacement.copies_to_begin:
        return coming
    absent = {serial for serial in assembled.before if inputs.facts.drive(serial) is None}
    return tuple(serial for serial in coming if serial not in absent)


def exchange_steps(
    inputs: PlanInputs,
    assembled: AssembledArray,
    replacement: Replacement,
    coming: tuple[str, ...],
    contents: Mapping[str, str],
) -> Iterator[Command]:
    """Yield the steps that replace members, all drives that come being free.

    Args:
        coming: The successors.
        contents: The content that each of them may have by then, by serial.
    """
    spec = inputs.spec
    if replacement.failed_members:
        yield Command(f"forget the absent members of {spec.name}", commands.forget(spec.device))
    to_add = tuple(serial for serial in coming if serial not in replacement.newcomers_in_array)
    yield from members.add_steps(spec, to_add, contents)
    for old, new in zip(replacement.copies_to_begin, coming[len(replacement.failed_members) :], strict=False):
        argv = ("mdadm", "--manage", spec.device, "--replace", f"${{drive:{old}}}", "--with", f"${{drive:{new}}}")
        yield Command(f"copy {old} onto {new}, which takes its place in {spec.name}", argv)
    for spare in replacement.idle_spares:
        text = f"take {spare}, which waits, out of {spec.name}, and erase its md superblock"
        yield Command(text, commands.dismiss(spec.device, f"${{drive:{spare}}}"))
    yield from repair.let_go_steps(spec, assembled.array, replacement.working_members)
