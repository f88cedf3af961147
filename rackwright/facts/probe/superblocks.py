"""What ext4, XFS, md and LUKS write about themselves at the start (or end) of a device, read from there.

Layouts: fs/ext4/ext4.h, fs/xfs/libxfs/xfs_format.h and include/uapi/linux/raid/md_p.h of Linux; LUKS2 On-Disk Format
Specification 1.1.1.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from typing import Any

from rackwright.facts.probe.observe import ReadError, unknown

KIB, MIB = 1 << 10, 1 << 20
PAGE = 64 * KIB
"""The largest page of any kernel."""
LEVELS = {-4: "multipath", -1: "linear", **{level: f"raid{level}" for level in (0, 1, 4, 5, 6, 10)}}
BYTE_ORDERS = {b"\xfc\x4e\x2b\xa9": "<", b"\xa9\x2b\x4e\xfc": ">"}
"""Of md's magic number: 0.90 counts as its machine does, the others always from the low end."""


def size_of(path: str) -> int:
    with open(path, "rb") as device:
        return device.seek(0, os.SEEK_END)


def forget(device: int, offset: int, length: int) -> None:
    """Make the page cache forget a range of an open device, so that who reads it next sees the device itself.

    What md and XFS write goes past the cache of the device below them: a page that was read earlier, and stays while
    they hold the device, is out of date. Only whole pages are forgotten.
    """
    start = offset // PAGE * PAGE
    os.posix_fadvise(device, start, -(-(offset + length - start) // PAGE) * PAGE, os.POSIX_FADV_DONTNEED)


def forget_ends(path: str) -> None:
    """Make the page cache forget where signatures stand."""
    with open(path, "rb", buffering=0) as device:
        for offset in (0, max(device.seek(0, os.SEEK_END) - MIB, 0)):
            forget(device.fileno(), offset, MIB)


def read_at(path: str, offset: int, length: int) -> bytes:
    with open(path, "rb", buffering=0) as device:
        forget(device.fileno(), offset, length)
        return os.pread(device.fileno(), length, offset)


def uuid_text(raw: bytes) -> str:
    """Return 16 bytes in the usual form; to import the module for it costs 2 ms of each probe."""
    text = raw.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def ext4(path: str) -> dict[str, Any]:
    raw = read_at(path, KIB, KIB)
    if raw[56:58] != b"\x53\xef":
        raise ReadError(f"{path} has no ext4 superblock")
    block = KIB << struct.unpack_from("<I", raw, 24)[0]
    stride = struct.unpack_from("<H", raw, 0x164)[0]
    stripe_width = struct.unpack_from("<I", raw, 0x170)[0]
    blocks = struct.unpack_from("<I", raw, 4)[0] + (struct.unpack_from("<I", raw, 0x150)[0] << 32)
    return {
        "uuid": uuid_text(raw[104:120]),
        "complete": True,  # mke2fs writes this superblock last
        "size_bytes": blocks * block,
        "stripe_unit_bytes": stride * block,
        "stripe_width_bytes": stripe_width * block,
    }


def xfs(path: str) -> dict[str, Any]:
    raw = read_at(path, 0, 512)
    if raw[:4] != b"XFSB":
        raise ReadError(f"{path} has no XFS superblock")
    block = struct.unpack_from(">I", raw, 4)[0]
    unit, width = struct.unpack_from(">II", raw, 184)
    blocks, log_start = (struct.unpack_from(">Q", raw, place)[0] for place in (8, 48))
    log_blocks = struct.unpack_from(">I", raw, 96)[0]
    return {
        "uuid": uuid_text(raw[32:48]),
        "complete": raw[126] == 0,  # sb_inprogress
        "size_bytes": blocks * block,
        "log_bytes": log_blocks * block if log_start else 0,
        "stripe_unit_bytes": unit * block,
        "stripe_width_bytes": width * block,
    }


def md_offset(metadata: str, size: int) -> int:
    """Return where a member of *size* bytes keeps its superblock."""
    if metadata == "1.0":
        return (size // 512 - 16) // 8 * 8 * 512
    if metadata == "0.90":
        return size // (64 * KIB) * (64 * KIB) - 64 * KIB
    try:
        return {"1.1": 0, "1.2": 4 * KIB}[metadata]
    except KeyError:
        raise ReadError(f"md metadata {metadata} is none of ours to read") from None


def md_member(path: str, metadata: str) -> dict[str, Any]:
    return md(path, md_offset(metadata, size_of(path)))


def md_array_of_member(path: str, metadata: str) -> str | None:
    """Return the UUID of the array that a member's superblock names, None where it has none in its place."""
    offset = md_offset(metadata, size_of(path))
    return md(path, offset)["array_uuid"] if read_at(path, offset, 4) in BYTE_ORDERS else None


def md(path: str, offset: int) -> dict[str, Any]:
    """Return the md superblock at *offset*, in mdadm's words."""
    raw = read_at(path, offset, 4 * KIB)
    order = BYTE_ORDERS.get(raw[:4])
    if not order:
        raise ReadError(f"{path} has no md superblock at {offset}")
    if struct.unpack_from(order + "I", raw, 4)[0] == 1:
        level, devices = struct.unpack_from("<i16xI", raw, 72)
        uuid, name = raw[16:32].hex(), raw[32:64].rstrip(b"\0").decode("utf-8", "surrogateescape")
        events, data_offset = struct.unpack_from("<Q", raw, 200)[0], struct.unpack_from("<Q", raw, 128)[0]
    else:
        level, devices = struct.unpack_from(order + "i8xI", raw, 28)
        words = (struct.unpack_from(order + "I", raw, place)[0] for place in (20, 52, 56, 60))
        uuid, name = "".join(f"{word:08x}" for word in words), ""
        # two words, the low one first or last as the machine counts
        events, data_offset = struct.unpack_from(order + "Q", raw, 156)[0], 0
    return {
        "array_uuid": ":".join(uuid[start : start + 8] for start in range(0, 32, 8)),
        "array_name": name,
        "level": LEVELS.get(level, str(level)),
        "devices": devices,
        "events": events,
        "data_offset_bytes": data_offset * 512,
    }


def luks(path: str) -> dict[str, Any]:
    """Return what a LUKS header tells to whoever has no key; nothing of its key slots but how many there are."""
    raw = read_at(path, 0, 4 * KIB)
    if raw[:6] != b"LUKS\xba\xbe":
        raise ReadError(f"{path} has no LUKS header")
    version, size, sequence = struct.unpack_from(">HQQ", raw, 6)
    told = {"uuid": raw[168:208].rstrip(b"\0").decode(), "version": version}
    if version != 2:
        return {**told, **dict.fromkeys(("sequence", "key_slots", "data_offset_bytes"), unknown("read of LUKS2 only"))}
    described = json.loads(read_at(path, 4 * KIB, min(size, 4 * MIB) - 4 * KIB).rstrip(b"\0"))
    return {
        **told,
        "sequence": sequence,
        "key_slots": len(described["keyslots"]),
        "data_offset_bytes": int(described["segments"]["0"]["offset"]),
    }


# --- what changes with every mount or write -------------------------------------------------------------------------

MAX_SECTOR = (1 << 64) - 1
REDUNDANT = (1, 4, 5, 6, 10)
RESHAPES, JOURNAL = 1 << 2, 1 << 9
"""Flags of md's feature map. Source: include/uapi/linux/raid/md_p.h."""
LOG_HEADER = 0xFEEDBABE
"""Source: fs/xfs/libxfs/xfs_log_format.h. Every other sector of an XFS log begins with its cycle."""
SECTOR = 512


def witness(path: str, kind: str, offset: int) -> str | None:
    """Return a digest of what each mount, and each write after one, changes on a device; None where nothing does.

    Args:
        kind: What stands on it, as libblkid says it.
        offset: Where libblkid has seen that.
    """
    readers = {"xfs": xfs_witness, "btrfs": btrfs_witness, "linux_raid_member": md_witness}
    reader = ext_witness if kind in ("ext2", "ext3", "ext4") else readers.get(kind)
    seen = reader(path, offset) if reader else None
    return hashlib.blake2b(seen, digest_size=8).hexdigest() if seen else None


def ext_witness(path: str, offset: int) -> bytes | None:
    """Return the superblock: a mount for writing notes its count and time there before anything else."""
    return read_at(path, KIB, KIB)


def btrfs_witness(path: str, offset: int) -> bytes | None:
    """Return the superblock: each transaction counts itself there."""
    return read_at(path, 64 * KIB, 4 * KIB)


def xfs_witness(path: str, offset: int) -> bytes | None:
    """Return the superblock, and the head of the log with what stands before it: a write goes through the log first.

    The superblock alone is written when a filesystem is unmounted, or at rest. None where the log is on another device.
    """
    raw = read_at(path, 0, SECTOR)
    block, log_blocks, group_blocks = (struct.unpack_from(">I", raw, place)[0] for place in (4, 96, 84))
    (start,) = struct.unpack_from(">Q", raw, 48)
    shift = raw[124]
    sectors = log_blocks * block // SECTOR
    if not start or not sectors or shift > 31:
        return None
    log = ((start >> shift) * group_blocks + (start & ((1 << shift) - 1))) * block
    if log + sectors * SECTOR > size_of(path):
        return None
    with open(path, "rb", buffering=0) as device:
        forget(device.fileno(), log, sectors * SECTOR)

        def cycle(sector: int) -> int:
            first, second = struct.unpack(">II", os.pread(device.fileno(), 8, log + sector * SECTOR))
            return int(second if first == LOG_HEADER else first)

        first, low, high = cycle(0), 1, sectors
        while low < high:  # sectors before the head have the cycle of the first one
            middle = (low + high) // 2
            low, high = (middle + 1, high) if cycle(middle) == first else (low, middle)
        before = os.pread(device.fileno(), min(low * SECTOR, 64 * KIB), log + max(low * SECTOR - 64 * KIB, 0))
        return raw + b"%d %d" % (first, low) + before


def md_witness(path: str, offset: int) -> bytes | None:
    """Return the superblock of a member whose array notes there that it is written to: redundant, clean, and at rest.

    One without redundancy notes nothing, one that is not clean has noted it already.
    """
    raw = read_at(path, offset, 4 * KIB)
    order = BYTE_ORDERS.get(raw[:4])
    if order is None:
        return None
    if struct.unpack_from(order + "I", raw, 4)[0] == 1:
        features, level, resynced = (
            struct.unpack_from(form, raw, place)[0] for form, place in (("<I", 8), ("<i", 72), ("<Q", 208))
        )
        notes = resynced == MAX_SECTOR and not features & (RESHAPES | JOURNAL)
    else:
        level, state = (struct.unpack_from(order + form, raw, place)[0] for form, place in (("i", 28), ("I", 132)))
        notes = bool(state & 1)
    return raw if notes and level in REDUNDANT else None
