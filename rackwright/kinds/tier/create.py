"""The creation of a tier: over drives that are blank or consented, and once more where it was cut off."""

from collections.abc import Iterable, Sequence

from rackwright.core.contract import Command, Plan, Step
from rackwright.errors import Diagnostic
from rackwright.facts.storage import Array, DriveFacts
from rackwright.kinds.tier import boot, commands, consistency, drives, fill, luks, owner_file, repair, scrub
from rackwright.kinds.tier.inputs import PlanInputs
from rackwright.kinds.tier.situation import Blank, HalfMade
from rackwright.kinds.tier.spec import TierSpec

GIB_KIB = 1 << 20


def create(inputs: PlanInputs, blank: Blank) -> Plan:
    """Return the plan that makes a tier over drives that are blank or consented."""
    return _creation(inputs, drives.refusals(inputs, inputs.spec.serials), None, makes_array=True)


def complete(inputs: PlanInputs, half: HalfMade) -> Plan:
    """Return the plan that makes what an interrupted creation has left undone; a whole array is kept."""
    ours, makes_array = half.written_drives, not half.is_whole
    refusals = drives.refusals(inputs, inputs.spec.serials, ours, looks_inside=makes_array)
    return _creation(inputs, refusals, half.array, makes_array)


def _creation(inputs: PlanInputs, not_free: Iterable[Diagnostic], array: Array | None, makes_array: bool) -> Plan:
    """Return the steps from free drives to a mounted tier; the owner file notes each that must not come twice."""
    spec, facts, repository = inputs.spec, inputs.facts, inputs.repository
    refusals = (*not_free, *luks.preparation_refusals(spec, facts), *luks.name_refusals(spec, facts, array))
    free = drives.present(inputs, spec.serials)
    notes = (*map(drives.describe, free), *consistency.notes(spec))
    if refusals:
        return Plan(refusals=refusals, notes=notes)
    steps: list[Step] = [owner_file.note_creation(spec)]
    if makes_array:
        steps += [*drives.wipe_steps(free), _array_step(spec, free)]
    if spec.declared.key:
        steps += luks.create_steps(spec, repository)
    steps += [_filesystem_step(spec), owner_file.note_filesystem(spec)]
    steps += [*boot.create_steps(spec, facts, repository), boot.mount_step(spec), *repair.cap_steps(spec)]
    steps += [*scrub.steps(spec, facts, repository, inputs.differing_things), *fill.wait_steps(spec)]
    steps += [owner_file.note_created(spec)]
    return Plan(steps=tuple(steps), by_hand=inputs.drive_differences, notes=notes)


def _array_step(spec: TierSpec, free: Sequence[DriveFacts]) -> Command:
    options = [f"--level={spec.level}", f"--raid-devices={len(spec.members)}"]
    if spec.spares:
        options.append(f"--spare-devices={len(spec.spares)}")
    if spec.declared.chunk_kib:
        options.append(f"--chunk={spec.declared.chunk_kib}")
    if spec.level != "raid0":
        options += [consistency.option(spec), f"--size={spec.member_kib}"]
    if spec.room_kib:
        options.append(f"--data-offset={spec.room_kib}K")
    return Command(
        f"make the array {spec.name}: {spec.level} over {_format_drives(spec)}",
        (
            *("mdadm", "--create", f"/dev/md/{spec.name}", "--run", "--metadata=1.2"),
            *(f"--homehost={spec.host}", f"--name={spec.name}", *options),
            *(f"${{drive:{serial}}}" for serial in spec.serials),
        ),
        expects=drives.content_after_wipe(free),
        creates=True,
    )


def _format_drives(spec: TierSpec) -> str:
    members, spares = (", ".join(drive.serial for drive in part) for part in (spec.members, spec.spares))
    return f"{members}, with the spare {spares}" if spares else members


def _filesystem_step(spec: TierSpec) -> Command:
    # the array is new, so a signature that an older one of the same geometry left inside it goes
    small = (spec.member_kib or GIB_KIB) * spec.data_drives < GIB_KIB
    argv = commands.make_filesystem(spec.filesystem, spec.filesystem_device, spec.stripe_kib, spec.data_drives, small)
    return Command(f"make {spec.filesystem} on {spec.name}", argv, creates=True)
