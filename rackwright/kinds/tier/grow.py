"""Members added to a tier: whether md can spread the array over them, and what is done.

md moves every stripe while the array is in use, and writes down in all superblocks how far it is.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from rackwright.facts.facts import Facts
from rackwright.facts.storage import Array
from rackwright.kinds.contract import Refusal, Run, WhenAtRest
from rackwright.kinds.tier import commands
from rackwright.kinds.tier.spec import TierSpec, data_drives
from rackwright.spec.units import format_size

METADATA_KIB = 256
"""More than superblock, bitmap and list of bad blocks take in front of the data, where mdadm itself has placed them."""
ANOTHER_TIER = "Declare another tier on the new drives, and move the data there"


@dataclass(frozen=True)
class Growth:
    """Who is added. Serials throughout."""

    coming: tuple[str, ...]
    """Declared drives that have no place in the array yet."""
    spare: frozenset[str]
    """Of *coming*, those that were put into the array already."""
    offset_kib: int
    """Where the data of the members begins; of those that differ, the first."""
    need_kib: int
    """By how much that has to move to the front, so that no stripe is written over before it has been moved."""

    @property
    def has_room(self) -> bool:
        return not self.need_kib or self.offset_kib >= METADATA_KIB + self.need_kib


def growth(spec: TierSpec, facts: Facts, array: Array) -> Growth | None:
    """Return who is added to a running array; None where no more members are declared than it has places."""
    if len(spec.members) <= array.devices:
        return None
    serials = {drive.name: drive.serial for drive in facts.drives}
    there = {serials[member.name]: member for member in array.members if member.name in serials}
    placed = {serial for serial, member in there.items() if member.slot is not None}
    coming = tuple(serial for serial in spec.serials if serial not in placed)
    offsets = [
        block.data_offset_bytes for drive in facts.drives if drive.serial in placed and (block := drive.superblock)
    ]
    need = _need_kib(spec, array) if spec.moves else 0
    spare = frozenset(serial for serial in coming if serial in there)
    return Growth(coming, spare, min(offsets, default=0) // 1024, need)


def _need_kib(spec: TierSpec, array: Array) -> int:
    """Return what mdadm moves the data's beginning by. Source: mdadm 4.2, analyse_change() in Grow.c."""
    chunk = array.chunk_bytes // 1024
    if spec.level == "raid10":
        return chunk
    before, after = (data_drives(spec.level, count) for count in (array.devices, len(spec.members)))
    return chunk * math.lcm(before, after) // before


def refusals(spec: TierSpec, array: Array, added: Growth, before: frozenset[str], begun: bool) -> Iterator[Refusal]:
    """Yield why *added* cannot be.

    Args:
        before: The members it was made of, by its owner file; empty where that says nothing.
        begun: Whether an earlier run has begun with it.
    """
    where, got = f"{spec.id}: members", f"got {array.devices} members, and {len(spec.members)} declared"
    leaving = sorted(before - {*spec.serials})
    if spec.array or not before:
        want = "an array that somebody else has made is grown by who made it"
        yield Refusal(where, got, want, "Grow it by hand with `mdadm --grow`, and declare what is there then")
    elif leaving:
        want = f"{', '.join(leaving)} would go at the same time"
        yield Refusal(where, got, want, "Replace members first, and add others once that is done")
    elif spec.level == "raid0":
        want = "md turns RAID0 into RAID4 for that, with nothing to fall back on when it is cut off"
        yield Refusal(where, got, want, ANOTHER_TIER)
    elif not added.has_room:
        room = format_size(max(added.offset_kib - METADATA_KIB, 0) * 1024)
        got = f"{got}, with {room} of room in front of the data"
        need = format_size(added.need_kib * 1024)
        want = f"with less than {need} md moves stripes in place, and a power cut in the first moments loses data"
        yield Refusal(where, got, want, ANOTHER_TIER)
    elif spec.ppl or (spec.level == "raid5" and array.ppl):
        fix = "Declare `ppl: false` and run up; add the members, and once they have their share `ppl: true` again"
        yield Refusal(where, f"{got}, with a partial parity log", "md moves no stripe of an array that keeps one", fix)
    elif array.condition != "optimal" and not (begun and array.condition == "syncing"):
        fix = "Mend it or let it end first, and run again"
        yield Refusal(where, f"{got}, while the array is {array.condition}", "a whole array that rests is grown", fix)


def steps(spec: TierSpec, array: Array, added: Growth, device: str, erased: Mapping[str, str]) -> Iterator[Run]:
    """Yield what adds members, all of them being free.

    Args:
        erased: What is on those that come by then, by serial.
    """
    arriving = tuple(serial for serial in added.coming if serial not in added.spare)
    if arriving:
        members = tuple(f"${{drive:{serial}}}" for serial in arriving)
        argv = ("mdadm", "--manage", device, "--add", *members)
        yield Run(f"put {', '.join(arriving)} into {spec.name}", argv, expects=erased)
    if array.condition == "syncing":  # the loss of power that had cut it off; md begins nothing else before that ends
        yield sync_step(spec, device)
    count = len(spec.members)
    # told where the data begins afterwards, mdadm gives up where that cannot be, and moves no stripe in place
    begins = (f"--data-offset={added.offset_kib - added.need_kib}K",) if added.need_kib else ()
    argv = ("mdadm", "--grow", device, f"--raid-devices={count}", *begins)
    yield Run(f"spread {spec.name} over {count} members", argv)


def sync_step(spec: TierSpec, device: str) -> Run:
    """Return the step that waits until md rests."""
    argv, week = commands.wait_for_sync(device), 7 * 24 * 3600.0
    return Run(f"wait for the sync of {spec.name}", argv, timeout_seconds=week)


def filesystem_step(spec: TierSpec, device: str) -> Run:
    argv = commands.grow_filesystem(spec.filesystem, spec.carrier if spec.key else device, spec.mount)
    if spec.key:
        argv = commands.grow_mapping(spec.mapping, spec.key_path, argv)
    return Run(f"let the {spec.filesystem} on {spec.name} take all that the array has", argv)


def later(spec: TierSpec, device: str) -> Run:
    """Return the step that has the filesystem grown when md is done, however long that takes; nobody waits for it."""
    at_rest = WhenAtRest(spec.array_key, commands.waiting_unit("grow", spec.array_key))
    text = f"let the {spec.filesystem} on {spec.name} grow once that is done"
    return Run(text, filesystem_step(spec, device).argv, when_at_rest=at_rest)
