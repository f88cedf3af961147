"""What makes a tier as declared, what forbids it, and what takes it away again."""

from collections.abc import Iterator, Sequence

from rackwright.facts.facts import Facts
from rackwright.facts.storage import Array, Drive
from rackwright.facts.view import NotKnown
from rackwright.kinds.contract import Absent, Difference, Plan, Put, Refusal, Run, Step
from rackwright.kinds.host import wrong_machine
from rackwright.kinds.house import House
from rackwright.kinds.tier import boot, commands, consistency, drives, enlarge, grow, luks, replace, scrub
from rackwright.kinds.tier.look import (
    carrier,
    find_array,
    lingering,
    members_of,
    mount_at,
    superblocks,
    superblocks_lost,
    waiting,
)
from rackwright.kinds.tier.spec import TierSpec, owner_text
from rackwright.spec.units import format_size

SPARE = (
    "a spare has taken a member's place, or is gone: put a drive in, and name it in the place of the missing one with"
    " `rackwright drive replace STACK {host} OLD NEW`; it waits from then on"
)
DISAGREES = (
    "parity and data disagree: find the drive that fails by its health and the kernel's log, and replace it; compare"
    " the files with a copy before `repair` is written to md/sync_action, which takes the data as right"
)
THEIR_MOUNT = "change it where it is mounted from, as /etc/fstab, and mount it again"
"""Remedies of a tier that was taken over."""
GIB_KIB = 1 << 20
KEPT = {"md": {"level", "chunk_kib", "metadata", "member_kib"}, "filesystem": {"type"}}
"""Properties that an array and a filesystem keep for life: only making them again changes these."""
IS = {"bus", "size_bytes"}
"""What a drive is, whatever its state."""


def plan(spec: TierSpec, differences: Sequence[Difference], facts: Facts, house: House) -> Plan:
    """Return the steps from *facts* to *spec*; a doubt about what is on the drives is a refusal."""
    if refusals := (*wrong_machine(spec.host, differences), *foreign(spec, facts)):
        return Plan(refusals=refusals)
    try:
        return _Planner(spec, differences, facts, house).plan()
    except NotKnown as reason:
        return Plan(refusals=(unreadable(spec, reason),))


def unreadable(spec: TierSpec, reason: NotKnown) -> Refusal:
    return Refusal(
        spec.id, f"got no answer ({reason})", "a plan needs to know what is there", "Mend that, and run again"
    )


def foreign(spec: TierSpec, facts: Facts) -> tuple[Refusal, ...]:
    """Refuse what another fleet or host owns under the same name."""
    try:
        owner = facts.owner(f"tier-{spec.name}")
    except NotKnown as reason:
        return (unreadable(spec, reason),)
    if owner is None or (owner.get("id"), owner.get("fleet")) == (spec.id, spec.fleet):
        return ()
    got = f"got {spec.owner_file} of {owner.get('id')} in fleet {owner.get('fleet')}"
    return (Refusal(spec.id, got, "one tier has one owner", "Declare it in one fleet only, or under another name"),)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}"


class _Planner:
    """One plan for one tier; a class because every question is asked of the same spec and facts."""

    def __init__(self, spec: TierSpec, differences: Sequence[Difference], facts: Facts, house: House) -> None:
        self.spec, self.facts, self.house = spec, facts, house
        self.differences = differences
        self.owner = facts.owner(f"tier-{spec.name}") or {}
        self.array = find_array(facts, spec.array_key)
        self.carrier = carrier(facts, spec.carrier)
        self.traces = replace.without_former(superblocks(facts, spec.array_key), spec.serials)
        self.before = frozenset(self.owner.get("serials", self._members_there()))
        left = () if self._is_new() else (*self.owner.get("former", ()), *self.owner.get("serials", ()))
        self.former = frozenset(left) - {*spec.serials}
        self.added = grow.growth(spec, facts, self.array) if self.array else None
        self.change = (
            replace.replacement(spec, facts, self.array, self.before) if self.array and not self.added else None
        )
        self.larger = bool(self.array and self.array.condition != "inactive" and enlarge.is_due(spec, self.array))
        self.lingering = lingering(facts, self.array, spec.array_key, spec.serials) if self.array else ()
        self.device = f"${{device:{spec.array_key}}}"
        self.place = spec.carrier if spec.key else self.device
        self.header = f"${{luks:{spec.array_key}}}" if spec.key else None
        self.noted = self.owner.get("luks", self.header)

    def plan(self) -> Plan:
        if luks.rewrites(self.spec, self._differing()) and (
            unwritable := tuple(luks.unwritable(self.spec, self.facts, self.house))
        ):
            return Plan(refusals=unwritable)
        if self.spec.array is None and self._is_new():
            return self._create()
        if self.array is None or self.array.condition == "inactive":
            return self._bring_back()
        return self._refused() or self._keep(self.array)

    def _is_new(self) -> bool:
        """Whether nothing of this tier holds data yet: it was never made, was removed, or its making was cut off."""
        if self.owner.get("phase") == "creating":
            return not self.owner.get("formatted")
        return self.array is None and not self.traces and self.owner.get("phase") in (None, "removed")

    # -- a tier that is not there yet ----------------------------------------------------------------------------------

    def _create(self) -> Plan:
        free, refusals = self._free_drives(self.spec.serials)
        notes = (*map(drives.note, free), *consistency.notes(self.spec))
        refusals += (*luks.unprepared(self.spec, self.facts),)
        refusals += (*luks.name_taken(self.spec, self.facts, self.array),)
        if refusals:
            return Plan(refusals=refusals, notes=notes)
        steps: list[Step] = [self._owner_step("creating")]
        if not self._array_is_whole():
            steps += [drives.wipe(drive) for drive in free if drive.content]
            steps.append(self._create_array(free))
        if self.spec.key:
            steps += luks.making(self.spec, self.house, self.device)
        steps += [self._make_filesystem(), self._owner_step("creating", self.header, formatted=True)]
        steps += [*boot.making(self.spec, self.facts, self.house), self._mount_step(), *self._cap_steps()]
        steps += [*self._scrub_steps(), *self._wait_steps(), self._owner_step("ready", self.header)]
        return Plan(steps=tuple(steps), by_hand=self._about_drives(), notes=notes)

    def _array_is_whole(self) -> bool:
        """Whether an interrupted creation got as far as a whole array."""
        array = self.array
        return (
            array is not None
            and array.condition != "inactive"
            and members_of(self.facts, array) == tuple(sorted(self.spec.serials))
        )

    def _free_drives(self, serials: Sequence[str]) -> tuple[list[Drive], tuple[Refusal, ...]]:
        """Return the members to be, and a refusal for each that is missing, not as declared, or carries something."""
        free, refusals = [], []
        for part in (drive for drive in self.spec.drives if drive.serial in serials):
            where = f"hosts.{self.spec.host}.drives {part.serial}"
            drive = self.facts.drive(part.serial)
            if drive is None:
                fix = "Put it in, or correct its serial"
                refusals.append(Refusal(where, "got no such drive", "a tier is made over all its members", fix))
                continue
            free.append(drive)
            wrong = [*self._wrong(part.serial)]
            for item in wrong:
                fix = "Take another drive" if item.name == "health" else "Correct the drive or its line"
                refusals.append(
                    Refusal(where, f"got {item.name} {item.found}", f"declared is {drives.said(item)}", fix)
                )
            if not wrong and not self._array_is_whole():
                refusals += self._occupied(drive, where)
        return free, tuple(refusals)

    def _wrong(self, serial: str) -> Iterator[Difference]:
        """Yield why a drive cannot become a member: it is another than declared, or calls itself failing."""
        yield from (item for item in self.differences if item.thing == f"drive:{serial}" and item.name in IS)
        yield from self._failing(serial)

    def _failing(self, serial: str) -> Iterator[Difference]:
        for item in self.differences:
            if (item.thing, item.name, item.unknown) == (f"drive:{serial}", "health", False):
                yield item

    def _occupied(self, drive: Drive, where: str) -> Iterator[Refusal]:
        if drive.mountpoints:
            fix = "Unmount it by hand, after looking at what it holds"
            yield Refusal(where, f"got it mounted at {', '.join(drive.mountpoints)}", "a member is free", fix)
            return
        least = (self.spec.member_kib or 0) * 1024
        if drive.size_bytes < least:
            got, want = f"got {format_size(drive.size_bytes)}", f"{format_size(least)} of each member are used"
            yield Refusal(where, got, want, "Take a bigger drive, or declare the size of the smallest")
        try:
            refusal = drives.occupied(self.spec.host, drive, self.spec.wipe, self.house.consents)
        except NotKnown as reason:
            fix = "Free it by hand, after looking at what it holds"
            yield Refusal(where, f"got no look at what is on it ({reason})", "a member is free", fix)
            return
        if refusal and not self._is_our_half_made(drive):
            yield refusal

    def _is_our_half_made(self, drive: Drive) -> bool:
        """Whether all that is on it was put there by an interrupted creation, before any data could be."""
        return (
            self.owner.get("phase") == "creating"
            and drive.serial in self.owner.get("serials", ())
            and drive.serial in self.traces
        )

    def _create_array(self, free: Sequence[Drive]) -> Run:
        spec = self.spec
        options = [f"--level={spec.level}", f"--raid-devices={len(spec.members)}"]
        if spec.spares:
            options.append(f"--spare-devices={len(spec.spares)}")
        if spec.chunk_kib:
            options.append(f"--chunk={spec.chunk_kib}")
        if spec.level != "raid0":
            options += [consistency.option(spec), f"--size={spec.member_kib}"]
        if spec.room_kib:
            options.append(f"--data-offset={spec.room_kib}K")
        return Run(
            f"make the array {spec.name}: {spec.level} over {self._named()}",
            (
                *("mdadm", "--create", f"/dev/md/{spec.name}", "--run", "--metadata=1.2"),
                *(f"--homehost={spec.host}", f"--name={spec.name}", *options),
                *(f"${{drive:{serial}}}" for serial in spec.serials),
            ),
            expects=drives.once_erased(free),
            creates=True,
        )

    def _named(self) -> str:
        members, spares = (", ".join(drive.serial for drive in part) for part in (self.spec.members, self.spec.spares))
        return f"{members}, with the spare {spares}" if spares else members

    def _make_filesystem(self) -> Run:
        # the array is new, so whatever an older one of the same geometry left inside it goes
        spec = self.spec
        small = (spec.member_kib or GIB_KIB) * spec.data_drives < GIB_KIB
        argv = commands.make_filesystem(spec.filesystem, self.place, spec.stripe_kib, spec.data_drives, small)
        return Run(f"make {self.spec.filesystem} on {self.spec.name}", argv, creates=True)

    # -- a tier that was there -----------------------------------------------------------------------------------------

    def _bring_back(self) -> Plan:
        """Assemble a stopped array from all its members; anything less is for a person to decide."""
        spec, whole = self.spec, set(self.traces) == set(self.spec.serials)
        if whole and spec.array is None and len({block.array_uuid for block in self.traces.values()}) == 1:
            stop = [Run(f"stop the inactive {spec.name}", ("mdadm", "--stop", self.device))] if self.array else []
            members = tuple(f"${{drive:{serial}}}" for serial in spec.serials)
            assemble = Run(
                f"assemble the array {spec.name}", ("mdadm", "--assemble", f"/dev/md/{spec.name}", "--run", *members)
            )
            files = (*self._file_steps(), *self._luks_steps(opens=True))
            steps = (*stop, assemble, *files, self._mount_step(), *self._owner_steps())
            return Plan(steps=steps, by_hand=self._about_drives())
        left = ", ".join(sorted(self.traces)) or "none"
        return Plan(
            refusals=(
                Refusal(
                    spec.id,
                    f"got no running array, and md superblocks of it on: {left}",
                    f"its members are {', '.join(spec.serials)}; nothing is made anew where data was",
                    "Bring the drives back and run up, or assemble what is left by hand",
                ),
            )
        )

    def _refused(self) -> Plan | None:
        spec, refusals = self.spec, []
        seen = self.array if self.array and self.array.condition != "interrupted" else None
        if seen and (wrong := tuple(luks.refusals(spec, self.facts, seen, self.owner))):
            return Plan(refusals=wrong)
        for item in self.differences:
            sort = item.thing.split(":")[0]
            if item.name in KEPT.get(sort, ()) and not item.unknown and not (item.name == "member_kib" and self.larger):
                got = "none" if isinstance(item.found, Absent) else item.found
                want = f"declared is {item.want}, and it never changes in an array that bears data"
                refusals.append(Refusal(f"{spec.id}: {sort} {item.name}", f"got {got}", want, _sentence(item.remedy)))
        if self.array and self.larger:
            refusals += enlarge.refusals(spec, self.array, mended=self.change is not None)
        if self.array is not None:
            known = frozenset(self.owner.get("serials", ()))
            if self.added:
                begun = self.owner.get("phase") == "growing"
                refusals += grow.refusals(spec, self.array, self.added, known, begun)
            elif self.change:
                ours = (self.before if spec.array else known) | self.former
                refusals += replace.refusals(spec, self.array, self.change, ours)
                if not refusals and len(self._successors()) < len(self.change.left):
                    refusals.append(replace.unsucceeded(spec, self.change))
            elif len(spec.members) < self.array.devices:
                refusals.append(replace.too_few(spec, self.array))
            if not refusals:
                refusals += self._free_drives(self._arriving())[1]
        on = self.carrier and self.carrier.name
        mount = mount_at(self.facts, spec.mount)
        if mount is not None and mount.device != on:
            got, fix = f"got {mount.device or mount.type} mounted there", "Unmount that by hand, after looking at it"
            refusals.append(Refusal(f"{spec.id}: {spec.mount}", got, f"{spec.name} belongs there", fix))
        elsewhere = [m.target for m in self.facts.mounts if on and m.device == on]
        if elsewhere and spec.mount not in elsewhere:
            got, want = f"got it mounted at {', '.join(elsewhere)}", f"declared is {spec.mount}"
            refusals.append(Refusal(f"{spec.id}: mount", got, want, f"Unmount {elsewhere[0]} by hand, then run again"))
        return Plan(refusals=tuple(refusals)) if refusals else None

    def _keep(self, array: Array) -> Plan:
        """Mend what differs around a running array; its data stays."""
        returned = [serial for serial in self._missing() if self._returned(serial, array)]
        changes = self.change or self.added
        notes = (*map(drives.note, self._free_drives(self._arriving())[0]), *self._spares_in_use(array))
        steps: list[Step] = [*self._changing_steps(array)]
        if returned:
            steps.append(Run(f"forget the absent members of {self.spec.name}", commands.forget(self.device)))
        steps += [self._take_back(serial) for serial in returned]
        steps += self._superblock_steps(array)
        if self._differs("md", "array_size"):
            whole = ("mdadm", "--grow", self.device, "--array-size=max")
            steps.append(Run(f"let {self.spec.name} have the size of its members again", whole))
        if self._differs("md", "bitmap") or self._differs("md", "ppl"):
            steps += consistency.steps(self.spec, array, self.device)
        if self._differs("md", "sync_speed_max_kib"):
            steps += self._cap_steps()
        steps += [*self._file_steps(), *self._luks_steps()]
        if self._mounts():
            argv = commands.mount(self.device, self.spec.unit)
            steps.append(self._mount_step() if self.spec.array else Run(f"mount {self.spec.mount}", argv))
        elif self._differs("mount", "options") and self.spec.array is None:
            options = ",".join(self.spec.mount_options)
            argv = ("mount", "-o", f"remount,{options}", self.place, self.spec.mount)
            steps.append(Run(f"mount {self.spec.mount} again with {options}", argv))
        waited = [*self._wait_steps()] if changes else []
        steps += waited
        if self.larger:
            steps += self._enlarging_steps(rests=not self.change or bool(waited))
        unfilled = self._differs("filesystem", "fills_array") or self._differs("luks", "fills_array")
        if unfilled or (self._spreads(array) and self.spec.wait_for_sync):
            steps.append(grow.filesystem_step(self.spec, self.device))
        steps += [self._owner_step("ready", self.noted)] if changes else self._owner_steps()
        mending = bool(
            returned or changes or (self.lingering and not self._missing()) or array.condition == "interrupted"
        )
        return Plan(steps=tuple(steps), by_hand=(*self._about_drives(), *self._about_array(mending)), notes=notes)

    def _superblock_steps(self, array: Array) -> Iterator[Run]:
        """Yield what writes lost superblocks again; not where something else stands on a member in their place."""
        lost = superblocks_lost(self.facts, array) if self._differs("md", "superblocks_lost") else ()
        if isinstance(lost, tuple) and lost and all(serial in self._all_serials() for serial in lost):
            argv = commands.write_superblocks(self.device, array.uuid, array.bitmap)
            yield Run(f"have md write the superblock of {', '.join(lost)} again", argv)

    def _all_serials(self) -> set[str]:
        return {drive.serial for drive in self.facts.drives}

    def _enlarging_steps(self, rests: bool) -> Iterator[Step]:
        filesystem = grow.filesystem_step(self.spec, self.device)
        if not rests:
            yield enlarge.later(self.spec, self.device, filesystem)
        elif self.change or self._differs("md", "member_kib"):
            yield enlarge.step(self.spec, self.device, filesystem)

    def _spares_in_use(self, array: Array) -> Iterator[str]:
        """Yield which spares have taken whose places."""
        placed = set(members_of(self.facts, array)) - set(waiting(self.facts, array))
        used = [spare.serial for spare in self.spec.spares if spare.serial in placed]
        if used and (missing := self._missing()):
            yield f"{', '.join(used)}, declared as a spare, is in the place of {', '.join(missing)}"

    def _changing_steps(self, array: Array) -> Iterator[Step]:
        """Yield what gives the array other members, or more, and what goes on with that after an interruption."""
        if phase := "growing" if self.added else "replacing" if self.change else None:
            text = owner_text(self.spec, phase, self.noted, self.former, serials=sorted(self.before))
            yield Put(f"note in the owner file: {phase}", self.spec.owner_file, text, 0o600)
        if phase and array.sync_action == "check":  # md begins nothing else before that ends
            yield Run(f"end the scrub of {self.spec.name}", ("mdadm", "--action=idle", self.device))
        free, _ = self._free_drives(self._arriving())
        yield from (drives.wipe(drive) for drive in free if drive.content)
        if self.added:
            yield from grow.steps(self.spec, array, self.added, self.device, drives.once_erased(free))
        elif self.change:
            erased = drives.once_erased(free)
            yield from replace.steps(self.spec, array, self.change, self._successors(), self.device, erased)
        elif self.lingering:
            yield replace.let_go(self.spec, array, self.lingering, self.device)
        if array.condition == "interrupted":
            yield Run(f"go on with the reshape of {self.spec.name}", commands.go_on(self.device))
        if self._spreads(array) and not self.spec.wait_for_sync:
            yield grow.later(self.spec, self.device)

    def _spreads(self, array: Array) -> bool:
        """Whether there will be more room once md is done: it begins a reshape now, or an earlier run has."""
        reshapes = self.added or array.condition == "interrupted" or (self.change and array.condition == "reshaping")
        return bool(reshapes) and self.spec.level != "raid1"

    def _successors(self) -> tuple[str, ...]:
        """Return the drives that take others' places, or wait for one.

        What is not in the array beside them comes back to its own, or is gone; but not where one that works has to have
        a successor.
        """
        assert self.change is not None and self.array is not None
        coming = [serial for serial in self.change.coming if not self._returned(serial, self.array)]
        if self.change.left:
            return tuple(coming)
        gone = {serial for serial in self.before if self.facts.drive(serial) is None}
        return tuple(serial for serial in coming if serial not in gone)

    def _arriving(self) -> tuple[str, ...]:
        """Return those that have to be free: they are not in the array yet."""
        if self.added:
            return tuple(serial for serial in self.added.coming if serial not in self.added.spare)
        if self.change is None:
            return ()
        return tuple(serial for serial in self._successors() if serial not in self.change.spare)

    def _members_there(self) -> set[str]:
        """Return who is a member by what stands on the drives; of what was taken over, who is declared and gone, too.

        Nothing else tells of those, and one that comes for it takes its place.
        """
        gone = {serial for serial in self.spec.serials if self.spec.array and self.facts.drive(serial) is None}
        return {*self.traces, *gone}

    def _missing(self) -> list[str]:
        assert self.array is not None
        return sorted(set(self.spec.serials) - set(members_of(self.facts, self.array)))

    def _returned(self, serial: str, array: Array) -> bool:
        """Whether a member that fell out is back in the machine, still the one it was, and not failing."""
        block = self.traces.get(serial)
        out = serial in self.before and serial not in members_of(self.facts, array)
        there = out and self.facts.drive(serial) is not None and not any(self._failing(serial))
        return there and block is not None and block.array_uuid == array.uuid

    def _take_back(self, serial: str) -> Run:
        # without a bitmap md cannot know what it missed, and copies all of it; where a spare has its place, it waits
        array = self.array
        verb = "--re-add" if array and array.bitmap == "internal" and array.places_taken < array.devices else "--add"
        argv = ("mdadm", "--manage", self.device, verb, f"${{drive:{serial}}}")
        return Run(f"take {serial} back into {self.spec.name}", argv)

    def _about_drives(self) -> tuple[Difference, ...]:
        return tuple(item for item in self.differences if item.thing.startswith("drive:"))

    def _about_array(self, mending: bool) -> Iterator[Difference]:
        """Yield what of the array and its filesystem no step can mend."""
        seen_later = self._differs("luks", "mapping") or (self.array and self.array.condition == "interrupted")
        rewritten = self.array is not None and bool([*self._superblock_steps(self.array)])
        for item in self.differences:
            sort = item.thing.split(":")[0]
            if seen_later and item.unknown and sort in ("luks", "filesystem", "unit"):
                continue
            if item.unknown and sort == "credential" and self._differs("credential"):
                continue  # nobody opens it, and it is sealed anew
            broken = sort == "md" and item.name in ("members", "state", "spares_waiting") and not mending
            broken |= item.name == "mismatch_count"
            broken |= item.name == "superblocks_lost" and not rewritten
            theirs = sort == "mount" and self.spec.array is not None and not self._mounts()
            made = sort == "filesystem" and item.name != "fills_array"
            if broken or theirs or made or (item.unknown and sort not in ("drive", "md")):
                yield item

    # -- steps shared by all of them -----------------------------------------------------------------------------------

    def _differs(self, sort: str, name: str | None = None) -> bool:
        return any(
            item.thing.split(":")[0] == sort and name in (None, item.name) and not item.unknown
            for item in self.differences
        )

    def _differing(self) -> set[str]:
        return {item.thing for item in self.differences if not item.unknown}

    def _file_steps(self) -> Iterator[Step]:
        yield from boot.mending(self.spec, self.facts, self.house, self._differing())
        yield from self._scrub_steps()

    def _scrub_steps(self) -> Iterator[Step]:
        if self.spec.array is None:
            yield from scrub.steps(self.spec, self.facts, self.house, self._differing())

    def _luks_steps(self, opens: bool = False) -> Iterator[Step]:
        if self.spec.key:
            paths = {item.path for item in self.differences if not item.unknown}
            yield from luks.mending(self.spec, self.facts, self.house, self.device, paths, opens)

    def _mounts(self) -> bool:
        """Whether it is to be mounted, and can be: of what was taken over systemd may have no unit."""
        there = self.spec.array is None or self.facts.unit(self.spec.unit) is not None
        return there and self._differs("mount", "source")

    def _mount_step(self) -> Run:
        return Run(f"mount {self.spec.mount}", ("systemctl", "start", self.spec.unit))

    def _cap_steps(self) -> Iterator[Run]:
        if cap := self.spec.sync_speed_max_kib:
            yield Run(f"cap the resync of {self.spec.name} at {cap} KiB/s", commands.cap(self.device, cap))

    def _wait_steps(self) -> Iterator[Run]:
        if self.spec.wait_for_sync:
            yield grow.sync_step(self.spec, self.device)

    def _owner_steps(self) -> Iterator[Put]:
        if self._differs("owner"):
            yield self._owner_step("ready", self.noted)

    def _owner_step(self, phase: str, luks: str | None = None, **more: bool) -> Put:
        noted = " and formatted" if more else ""
        text = owner_text(self.spec, phase, luks, self.former, **more)
        return Put(f"note in the owner file: {phase}{noted}", self.spec.owner_file, text, 0o600)
