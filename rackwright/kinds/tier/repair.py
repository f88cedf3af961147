"""The repair of a tier that runs: members that fell out, properties of the array, files, encryption and mount.

Every other plan for an array that runs refuses and repairs the same things besides its own.
"""

from collections.abc import Iterable, Iterator

from rackwright.core.contract import Absent, Command, Difference, Plan, Step, WhenAtRest
from rackwright.errors import Diagnostic
from rackwright.facts.storage import Array
from rackwright.kinds.tier import boot, commands, consistency, drives, fill, luks, owner_file, scrub
from rackwright.kinds.tier.inputs import PlanInputs
from rackwright.kinds.tier.observe import lost_superblocks, members_of, mount_at, waiting_spares
from rackwright.kinds.tier.situation import AssembledArray, Running, members_are_larger
from rackwright.kinds.tier.spec import TierSpec

LIFETIME = {"md": {"level", "chunk_kib", "metadata", "member_kib"}, "filesystem": {"type"}}
"""Properties that an array and a filesystem keep for life: only a new one has others."""


def repair(inputs: PlanInputs, running: Running) -> Plan:
    """Return the plan that repairs what differs around an array; its members and its data stay."""
    spec, array = inputs.spec, running.array
    if refusals := assembled_refusals(inputs, running, place_refusals(spec, array)):
        return Plan(refusals=refusals)
    steps = (
        *let_go_steps(spec, array, running.lingering),
        *repair_steps(inputs, running),
        *fill.fill_steps(inputs),
        *owner_file.repair_steps(inputs),
    )
    restored = restores_members(inputs, running, running.lingering)
    return Plan(steps, by_hand=manual_differences(inputs, running, restored), notes=(*spares_in_use(inputs, running),))


# -- refusals --------------------------------------------------------------------------------------------------------


def assembled_refusals(
    inputs: PlanInputs, assembled: AssembledArray, change: Iterable[Diagnostic], newcomers: Iterable[Diagnostic] = ()
) -> tuple[Diagnostic, ...]:
    """Return why no step may run on an array that runs.

    Args:
        change: Refusals of the change of its members.
        newcomers: Refusals of the drives that come, which are looked at only where nothing else is refused.
    """
    if assembled.array.condition != "interrupted" and (
        refusals := tuple(luks.refusals(inputs.spec, inputs.facts, assembled.array, inputs.owner))
    ):
        return refusals
    refusals = (*_lifetime_refusals(inputs, assembled.array), *change)
    return (*(refusals or newcomers), *_mount_refusals(inputs))


def place_refusals(spec: TierSpec, array: Array) -> Iterator[Diagnostic]:
    """Yield that an array has more places than members are declared."""
    if len(spec.members) < array.devices:
        problem = f"the array has {array.devices} members, and {len(spec.members)} are declared"
        note = "a member can be replaced, and not removed"
        yield Diagnostic(f"{spec.id}: members", problem, help=f"Declare {array.devices} members", note=note)


def _lifetime_refusals(inputs: PlanInputs, array: Array) -> Iterator[Diagnostic]:
    for item in inputs.differences:
        sort = item.thing.split(":")[0]
        if item.is_unknown or item.name not in LIFETIME.get(sort, ()):
            continue
        if item.name == "member_kib" and members_are_larger(inputs.spec, array):
            continue
        actual = "none" if isinstance(item.actual, Absent) else item.actual
        help = f"{item.remedy[:1].upper()}{item.remedy[1:]}"
        note = "this property never changes in an array with data"
        yield Diagnostic(f"{inputs.spec.id}: {sort} {item.name}", f"got {actual}", f"{item.want}", help, note)


def _mount_refusals(inputs: PlanInputs) -> Iterator[Diagnostic]:
    spec, mounts = inputs.spec, inputs.facts.mounts
    device = inputs.carrier and inputs.carrier.name
    mount = mount_at(inputs.facts, spec.declared.mount)
    if mount is not None and mount.device != device:
        problem, help = f"{mount.device or mount.type} is mounted there", "Look at its content, and unmount it by hand"
        yield Diagnostic(f"{spec.id}: {spec.declared.mount}", problem, f"{spec.name} is mounted there", help)
    elif mount is not None and mount.part:
        problem, help = f"only {mount.root} of it is mounted there", f"Unmount {mount.target} by hand, then run again"
        yield Diagnostic(
            f"{spec.id}: {spec.declared.mount}", problem, f"the whole of {spec.name} is mounted there", help
        )
    elsewhere = [mount.target for mount in mounts if device and mount.device == device]
    if elsewhere and spec.declared.mount not in elsewhere:
        problem = f"{spec.name} is mounted at {', '.join(elsewhere)}"
        yield Diagnostic(
            f"{spec.id}: mount", problem, spec.declared.mount, f"Unmount {elsewhere[0]} by hand, then run again"
        )


# -- steps -----------------------------------------------------------------------------------------------------------


def repair_steps(inputs: PlanInputs, assembled: AssembledArray) -> Iterator[Step]:
    """Yield the steps that repair an array, and everything around it that its data does not depend on."""
    spec, array = inputs.spec, assembled.array
    if returning := returning_members(inputs, assembled):
        yield Command(f"forget the absent members of {spec.name}", commands.forget(spec.device))
        yield from (_take_back(spec, array, serial) for serial in returning)
    yield from _superblock_steps(inputs, array)
    if inputs.differs("md", "array_size"):
        argv = ("mdadm", "--grow", spec.device, "--array-size=max")
        yield Command(f"let {spec.name} have the size of its members again", argv)
    if inputs.differs("md", "bitmap") or inputs.differs("md", "ppl"):
        yield from consistency.steps(spec, array)
    if inputs.differs("md", "sync_speed_max_kib"):
        yield from cap_steps(spec)
    if inputs.differs("md", "member_flags"):
        yield Command(f"let {spec.name} use all its members alike", commands.clear_member_flags(spec.device))
    if inputs.differs("md", "sync_limit"):
        yield Command(f"let a sync of {spec.name} go to its end", commands.clear_sync_limit(spec.device))
    yield from boot.repair_steps(spec, inputs.facts, inputs.repository, inputs.differing_things)
    if spec.declared.array is None:
        yield from scrub.steps(spec, inputs.facts, inputs.repository, inputs.differing_things)
    yield from luks.repair_steps(spec, inputs.facts, inputs.repository, inputs.differing_paths)
    yield from _mount_steps(inputs)


def returning_members(inputs: PlanInputs, assembled: AssembledArray) -> list[str]:
    """Return the declared members that fell out of the array, are there again, and do not fail."""
    back = assembled.detached & {*inputs.spec.serials}
    return sorted(serial for serial in back if not any(drives.failing_health(inputs, serial)))


def _take_back(spec: TierSpec, array: Array, serial: str) -> Command:
    # without a bitmap md cannot know what it missed, and copies all of it; where a spare has its place, it waits
    verb = "--re-add" if array.bitmap == "internal" and array.occupied_slots < array.devices else "--add"
    argv = ("mdadm", "--manage", spec.device, verb, f"${{drive:{serial}}}")
    return Command(f"take {serial} back into {spec.name}", argv)


def _superblock_steps(inputs: PlanInputs, array: Array) -> Iterator[Command]:
    """Yield the step that writes lost superblocks again; none where a member bears something else in their place."""
    spec = inputs.spec
    serials = lost_superblocks(inputs.facts, array) if inputs.differs("md", "superblocks_lost") else ()
    present = {drive.serial for drive in inputs.facts.drives}
    if isinstance(serials, tuple) and serials and {*serials} <= present:
        argv = commands.write_superblocks(spec.device, array.uuid, array.bitmap)
        yield Command(f"have md write the superblock of {', '.join(serials)} again", argv)


def cap_steps(spec: TierSpec) -> Iterator[Command]:
    if cap := spec.declared.sync_speed_max_kib:
        yield Command(f"cap the resync of {spec.name} at {cap} KiB/s", commands.cap(spec.device, cap))


def _mount_steps(inputs: PlanInputs) -> Iterator[Command]:
    spec = inputs.spec
    if _can_mount(inputs):
        if spec.declared.array:
            yield boot.mount_step(spec)
        else:
            yield Command(f"mount {spec.declared.mount}", commands.mount(spec.device, spec.unit))
    elif inputs.differs("mount", "options") and spec.declared.array is None:
        options = ",".join(spec.mount_options)
        argv = ("mount", "-o", f"remount,{options}", spec.filesystem_device, spec.declared.mount)
        yield Command(f"mount {spec.declared.mount} again with {options}", argv)


def _can_mount(inputs: PlanInputs) -> bool:
    """Return whether the tier is to be mounted, and can be: systemd may have no unit of one that was taken over."""
    has_unit = inputs.spec.declared.array is None or inputs.facts.unit(inputs.spec.unit) is not None
    return has_unit and inputs.differs("mount", "source")


def let_go_steps(spec: TierSpec, array: Array, serials: Iterable[str]) -> Iterator[Command]:
    """Yield the step that lets drives go whose places others have, once md rests, and erases their md superblocks."""
    if serials := tuple(serials):
        paths = (f"${{drive-if-present:{serial}}}" for serial in serials)
        at_rest = WhenAtRest(spec.array_key, commands.waiting_unit("replace", spec.array_key))
        text = f"let {', '.join(serials)} go once that is done, and erase the md superblock"
        yield Command(text, commands.let_go(spec.device, array.uuid, paths), when_at_rest=at_rest)


# -- what remains ----------------------------------------------------------------------------------------------------


def restores_members(inputs: PlanInputs, assembled: AssembledArray, lingering: Iterable[str]) -> bool:
    """Return whether the repair brings the members to what is declared."""
    return bool(returning_members(inputs, assembled) or (lingering and not _missing(inputs, assembled)))


def manual_differences(inputs: PlanInputs, assembled: AssembledArray, restored: bool) -> tuple[Difference, ...]:
    """Return the differences that no step repairs.

    Args:
        restored: Whether steps bring the members to what is declared.
    """
    return (*inputs.drive_differences, *_about_array(inputs, assembled.array, restored))


def _about_array(inputs: PlanInputs, array: Array, restored: bool) -> Iterator[Difference]:
    is_visible_later = inputs.differs("luks", "mapping") or array.condition == "interrupted"
    rewritten = any(_superblock_steps(inputs, array))
    for item in inputs.differences:
        sort = item.thing.split(":")[0]
        if is_visible_later and item.is_unknown and sort in ("luks", "filesystem", "unit"):
            continue
        if item.is_unknown and sort == "credential" and inputs.differs("credential"):
            continue  # it does not open, and is sealed again
        broken = sort == "md" and item.name in ("members", "state", "spares_waiting") and not restored
        broken |= item.name in ("mismatch_count", "scrub", "undeclared_options", "swap_files")
        broken |= item.name == "superblocks_lost" and not rewritten
        theirs = sort == "mount" and inputs.spec.declared.array is not None and not _can_mount(inputs)
        made = sort == "filesystem" and item.name != "fills_array"
        if broken or theirs or made or (item.is_unknown and sort not in ("drive", "md")):
            yield item


def spares_in_use(inputs: PlanInputs, assembled: AssembledArray) -> Iterator[str]:
    """Yield the note that spares have taken the places of members."""
    placed = {*members_of(inputs.facts, assembled.array)} - {*waiting_spares(inputs.facts, assembled.array)}
    used = [spare.serial for spare in inputs.spec.spares if spare.serial in placed]
    if used and (missing := _missing(inputs, assembled)):
        yield f"{', '.join(used)}, declared as a spare, is in the place of {', '.join(missing)}"


def _missing(inputs: PlanInputs, assembled: AssembledArray) -> list[str]:
    return sorted({*inputs.spec.serials} - {*members_of(inputs.facts, assembled.array)})
