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
    where, got = f"{spec.id}: members", f"got {array.devices} members, and {len(spec.members)} declared"
    noted_members, phase = frozenset(inputs.owner.get("serials", ())), inputs.owner.get("phase")
    leaving = sorted(noted_members - {*spec.serials})
    if spec.array or not noted_members:
        want = "rackwright grows only arrays that it has made"
        yield Diagnostic(where, got, want, "Grow it by hand with `mdadm --grow`, and declare what is there then")
    elif leaving:
        want = f"{', '.join(leaving)} would go at the same time"
        yield Diagnostic(where, got, want, "Replace members first, and add others once that is done")
    elif spec.level == "raid0":
        want = "md turns RAID0 into RAID4 for that, with nothing to fall back on when it is cut off"
        yield Diagnostic(where, got, want, ANOTHER_TIER)
    elif not growth.has_room:
        room = format_size(max(growth.offset_kib - METADATA_KIB, 0) * 1024)
        got = f"{got}, with {room} of room in front of the data"
        need = format_size(growth.need_kib * 1024)
        want = f"with less than {need} md moves stripes in place, and a power cut in the first moments loses data"
        yield Diagnostic(where, got, want, ANOTHER_TIER)
    elif spec.ppl or (spec.level == "raid5" and array.ppl):
        fix = "Declare `ppl: false` and run up; add the members, and once they have their share `ppl: true` again"
        yield Diagnostic(
            where, f"{got}, with a partial parity log", "md moves no stripe of an array that keeps one", fix
        )
    elif array.condition != "optimal" and not (phase == "growing" and array.condition == "syncing"):
        fix = "Mend it or let it end first, and run again"
        yield Diagnostic(
            where, f"{got}, while the array is {array.condition}", "a whole array that rests is grown", fix
        )


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
