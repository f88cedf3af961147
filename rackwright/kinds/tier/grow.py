"""The growth of a tier by further members: md spreads the array over them while it is in use.

md moves every stripe, and records its progress in all superblocks.
"""

from collections.abc import Iterator, Mapping

from rackwright.core.contract import Command, Plan
from rackwright.errors import Diagnostic
from rackwright.kinds.tier import drives, enlarge, fill, members, owner_file, repair
from rackwright.kinds.tier.growth import METADATA_KIB
from rackwright.kinds.tier.inputs import PlanInputs
from rackwright.kinds.tier.situation import Growing
from rackwright.schema.units import format_size

ANOTHER_TIER = "Declare another tier on the new drives, and move the data there"


def grow(inputs: PlanInputs, growing: Growing) -> Plan:
    """Return the plan that spreads an array over more members; these are blank or consented."""
    spec, growth = inputs.spec, growing.growth
    not_free = drives.refusals(inputs, growth.newcomers_to_add)
    if refusals := repair.assembled_refusals(inputs, growing, _refusals(inputs, growing), not_free):
        return Plan(refusals=refusals)
    free, gains_room = drives.present(inputs, growth.newcomers_to_add), spec.level != "raid1"
    steps = (
        *members.change_steps(inputs, growing, "growing", free),
        *_spread_steps(inputs, growing, drives.content_after_wipe(free)),
        *fill.schedule_fill_steps(spec, gains_room),
        *repair.repair_steps(inputs, growing),
        *fill.wait_steps(spec),
        *(enlarge.enlarge_at_rest_steps(spec) if growing.is_larger else ()),
        *fill.fill_steps(inputs, gains_room),
        owner_file.note_ready(inputs),
    )
    notes = (*map(drives.describe, free), *repair.spares_in_use(inputs, growing))
    return Plan(steps, by_hand=repair.manual_differences(inputs, growing, restored=True), notes=notes)


def _refusals(inputs: PlanInputs, growing: Growing) -> Iterator[Diagnostic]:
    """Yield why the array cannot grow."""
    spec, array, growth = inputs.spec, growing.array, growing.growth
    if growing.is_larger:
        yield from enlarge.refusals(spec, array, completes=False)
    where = f"{spec.id}: members"
    problem = f"the array has {array.devices} members, and {len(spec.members)} are declared"
    noted_members, phase = frozenset(inputs.owner.get("serials", ())), inputs.owner.get("phase")
    leaving = sorted(noted_members - {*spec.serials})
    if spec.declared.array or not noted_members:
        help = "Grow it by hand with `mdadm --grow`, and declare the members that it has then"
        yield Diagnostic(where, problem, "an array that rackwright has made", help)
    elif leaving:
        problem += f", and {', '.join(leaving)} would leave at the same time"
        help = "Replace members first, and add the others when that is done"
        yield Diagnostic(where, problem, "either a replacement of members or further members", help)
    elif spec.level == "raid0":
        note = "md converts RAID0 to RAID4 to grow it, and an interruption could lose the data"
        yield Diagnostic(where, problem, "another level than raid0", ANOTHER_TIER, note)
    elif not growth.has_room:
        problem += f", with {format_size(max(growth.offset_kib - METADATA_KIB, 0) * 1024)} of room before the data"
        expected = f"at least {format_size(growth.need_kib * 1024)} of room"
        note = "with less room md moves stripes in place, and a power cut in the first moments loses data"
        yield Diagnostic(where, problem, expected, ANOTHER_TIER, note)
    elif spec.declared.ppl or (spec.level == "raid5" and array.ppl):
        problem += ", but the array has a partial parity log"
        help = "Declare `ppl: false` and run up; add the members; declare `ppl: true` again after the reshape"
        yield Diagnostic(where, problem, "an array without the log: md reshapes no other", help)
    elif array.condition != "optimal" and not (phase == "growing" and array.condition == "syncing"):
        problem += f", but the array is {array.condition}"
        help = "Repair it or wait until it rests, and run again"
        yield Diagnostic(where, problem, "an array with all members that is at rest", help, id="array-busy")


def _spread_steps(inputs: PlanInputs, growing: Growing, contents: Mapping[str, str]) -> Iterator[Command]:
    """Yield the steps that add members, all of them being free.

    Args:
        contents: The content that each drive that comes may have by then, by serial.
    """
    spec, growth = inputs.spec, growing.growth
    yield from members.add_steps(spec, growth.newcomers_to_add, contents)
    if growing.array.condition == "syncing":  # after a loss of power; md begins nothing else before that ends
        yield fill.wait_step(spec)
    count = len(spec.members)
    # with the offset of the data afterwards, mdadm gives up where it is not possible, and moves no stripe in place
    offset = (f"--data-offset={growth.offset_kib - growth.need_kib}K",) if growth.need_kib else ()
    argv = ("mdadm", "--grow", spec.device, f"--raid-devices={count}", *offset)
    yield Command(f"spread {spec.name} over {count} members", argv)
