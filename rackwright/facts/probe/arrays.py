"""The md arrays, from sysfs and the superblocks of their members."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rackwright.facts.probe import superblocks
from rackwright.facts.probe.observe import attempt, listing, number, read, read_any, unknown_value
from rackwright.facts.probe.superblocks import KIB

if TYPE_CHECKING:  # the module of block devices imports this one
    from rackwright.facts.probe.block import BlockDevices

UNREDUNDANT = ("raid0", "linear")
CORRECTING = ("resync", "repair")
"""Passes over an array that write what they find to disagree (md(4))."""


def arrays(machine: BlockDevices) -> list[dict[str, Any]]:
    return [array(machine, name) for name in machine.arrays]


def array(machine: BlockDevices, name: str) -> dict[str, Any]:
    md = f"{machine.sys(name)}/md"
    level = attempt(read, f"{md}/level")
    from_member = attempt(superblock_of_member, machine, md)
    # a level without redundancy has no bitmap and no sync, and no files about them
    without_redundancy = level in UNREDUNDANT

    def redundancy(file: str, default: Any, convert: Any = str) -> Any:
        return default if without_redundancy else attempt(lambda: convert(read(f"{md}/{file}")))

    return {
        "name": name,
        "uuid": from_member.get("array_uuid", from_member),
        "md_name": from_member.get("array_name", from_member),
        "level": level or unknown_value(f"{md}/level is empty"),
        "devices": attempt(number, f"{md}/raid_disks"),
        "chunk_bytes": attempt(number, f"{md}/chunk_size"),
        "metadata": attempt(read, f"{md}/metadata_version"),
        "bitmap": redundancy("bitmap/location", "none", bitmap),
        "ppl": redundancy("consistency_policy", False, lambda policy: policy == "ppl"),
        "member_bytes": attempt(lambda: number(f"{md}/component_size") * KIB),
        "size_bytes": attempt(machine.size, name),
        "array_state": attempt(read, f"{md}/array_state"),
        "sync_action": redundancy("sync_action", "idle"),
        "sync_completed": redundancy("sync_completed", "none"),
        "sync_speed_kib": redundancy("sync_speed", 0, lambda text: 0 if text == "none" else int(text)),
        "sync_speed_max_kib": redundancy("sync_speed_max", 0, speed_cap),
        "sync_min": redundancy("sync_min", 0, int),
        "sync_max": redundancy("sync_max", "max"),
        "reshape_position": attempt(read_any, f"{md}/reshape_position") or "none",
        "degraded": redundancy("degraded", 0, int),
        "mismatch_count": 0 if without_redundancy else attempt(mismatch_count, md),
        "array_size": attempt(read, f"{md}/array_size"),
        "members": attempt(members, machine, md),
    }


def mismatch_count(md: str) -> int:
    """Return the number of sectors whose copies or parity disagree.

    The kernel keeps the count of the last pass over the array. A resync and a repair have corrected what they counted:
    the first resync of a RAID6 counts the parity of whatever the drives carried before.
    """
    return 0 if read(f"{md}/last_sync_action") in CORRECTING else number(f"{md}/mismatch_cnt")


def superblock_of_member(machine: BlockDevices, md: str) -> dict[str, Any]:
    """Return an array's superblock: the one with the kernel's UUID, otherwise the most frequent one of its members.

    A member may carry the superblock of another array. Linux 6.1 reports the UUID, older kernels may not.
    """
    metadata = read(f"{md}/metadata_version")
    superblocks_read = [
        attempt(superblocks.md_member, machine.path(entry[4:]), metadata) for entry in listing(md, "dev-*")
    ]
    readable = [block for block in superblocks_read if "unknown" not in block]
    uuids = [block["array_uuid"] for block in readable]
    if not readable:
        return superblocks_read[0] if superblocks_read else unknown_value(f"{md} has no members")
    uuid = read_any(f"{md}/uuid").replace("-", "")
    return max(
        readable, key=lambda block: (block["array_uuid"].replace(":", "") == uuid, uuids.count(block["array_uuid"]))
    )


def bitmap(location: str) -> str:
    return location if location == "none" else "internal" if location[0] in "+-" else "file"


def speed_cap(text: str) -> int:
    """Return the speed limit of this array: ``50000 (local)`` is one, ``200000 (system)`` is none and gives 0."""
    value, _, source = text.partition(" ")
    return 0 if source == "(system)" else int(value)


def members(machine: BlockDevices, md: str) -> list[dict[str, Any]]:
    metadata = read(f"{md}/metadata_version")
    return [
        {
            "name": entry[4:],
            "slot": attempt(lambda: None if (slot := read(f"{md}/{entry}/slot")) == "none" else int(slot)),  # noqa: B023
            "state": attempt(lambda: [word for word in read(f"{md}/{entry}/state").split(",") if word]),  # noqa: B023
            "names_array": attempt(superblocks.md_array_of_member, machine.path(entry[4:]), metadata),
        }
        for entry in listing(md, "dev-*")
    ]


def is_reshape_waiting(machine: BlockDevices, array: str) -> bool:
    """Return whether an interrupted reshape waits for the first write; reads of such a RAID10 miss the moved data."""
    state, position = (read_any(f"{machine.sys(array)}/md/{file}") for file in ("array_state", "reshape_position"))
    return state == "read-auto" and position not in ("", "none")
