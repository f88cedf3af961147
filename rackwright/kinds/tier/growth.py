"""Members that are added to an array: which drives, and whether there is room to move the stripes."""

import math
from dataclasses import dataclass

from rackwright.facts.facts import Facts
from rackwright.facts.storage import Array
from rackwright.kinds.tier.spec import TierSpec, data_drives

METADATA_KIB = 256
"""More than superblock, bitmap and list of bad blocks take in front of the data, where mdadm itself has placed them."""


@dataclass(frozen=True)
class Growth:
    """The drives that an array is to be spread over. Serials throughout."""

    newcomers: tuple[str, ...]
    """Declared drives that have no place in the array yet."""
    newcomers_in_array: frozenset[str]
    """Newcomers that wait in the array already."""
    offset_kib: int
    """The offset of the data on the members; the smallest where they differ."""
    need_kib: int
    """The distance by which the data moves to the front, so that no stripe overwrites one that was not moved yet."""

    @property
    def newcomers_to_add(self) -> tuple[str, ...]:
        """Newcomers that are not in the array, and have to be free."""
        return tuple(serial for serial in self.newcomers if serial not in self.newcomers_in_array)

    @property
    def has_room(self) -> bool:
        return not self.need_kib or self.offset_kib >= METADATA_KIB + self.need_kib


def find_growth(spec: TierSpec, facts: Facts, array: Array) -> Growth | None:
    """Return the growth of an array; None where no more members are declared than it has places."""
    if len(spec.members) <= array.devices:
        return None
    serials = {drive.name: drive.serial for drive in facts.drives}
    in_array = {serials[member.name]: member for member in array.members if member.name in serials}
    placed = {serial for serial, member in in_array.items() if member.slot is not None}
    newcomers = tuple(serial for serial in spec.serials if serial not in placed)
    offsets = [
        block.data_offset_bytes for drive in facts.drives if drive.serial in placed and (block := drive.superblock)
    ]
    need = _need_kib(spec, array) if spec.moves else 0
    newcomers_in_array = frozenset(serial for serial in newcomers if serial in in_array)
    return Growth(newcomers, newcomers_in_array, min(offsets, default=0) // 1024, need)


def _need_kib(spec: TierSpec, array: Array) -> int:
    """Return the distance by which the data has to move, so that a power cut at any moment loses nothing.

    mdadm asks for the stripes that are whole before and after. Linux writes down how far a reshape is before it
    overwrites what was not moved yet, but when the array runs already it reckons without the distance: it first does
    so when what it reads is two chunks ahead of what it writes. Stripes from before that begin again after a power
    cut, and what they were read from must be there still. Sources: mdadm 4.2, analyse_change() in Grow.c; Linux 6.1,
    reshape_request() in drivers/md/raid5.c; and the drives after such a power cut.
    """
    chunk = array.chunk_bytes // 1024
    if spec.level == "raid10":
        return chunk
    before, after = (data_drives(spec.level, count) for count in (array.devices, len(spec.members)))
    whole = math.lcm(before, after) // before
    first_record = 2 * before // (after - before) + 1
    return chunk * max(whole, first_record)
