"""The superblocks of ext4, XFS, md and LUKS, read from the start or end of a device.

Layouts: fs/ext4/ext4.h, fs/xfs/libxfs/xfs_format.h and include/uapi/linux/raid/md_p.h of Linux; LUKS2 On-Disk Format
Specification 1.1.1.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from typing import Any

from rackwright.facts.probe.observe import ReadError, unknown_value

KIB, MIB = 1 << 10, 1 << 20
PAGE = 64 * KIB
"""The largest page of any kernel."""
LEVELS = {-4: "multipath", -1: "linear", **{level: f"raid{level}" for level in (0, 1, 4, 5, 6, 10)}}
BYTE_ORDERS = {b"\xfc\x4e\x2b\xa9": "<", b"\xa9\x2b\x4e\xfc": ">"}
"""Byte order by md's magic number: metadata 0.90 has that of its machine, later versions are little-endian."""


def size_of(path: str) -> int:
    with open(path, "rb") as device:
        return device.seek(0, os.SEEK_END)


def drop_cached(device: int, offset: int, length: int) -> None:
    """Drop a range of an open device from the page cache, so that the next read reaches the device itself.

    md and XFS write past the cache of the device below them. A page that was read earlier, and that stays cached while
    they use the device, is out of date. The kernel drops only whole pages.
    """
    start = offset // PAGE * PAGE
    os.posix_fadvise(device, start, -(-(offset + length - start) // PAGE) * PAGE, os.POSIX_FADV_DONTNEED)


def drop_cached_ends(path: str) -> None:
    """Drop both ends of a device, where signatures are, from the page cache."""
    with open(path, "rb", buffering=0) as device:
        for offset in (0, max(device.seek(0, os.SEEK_END) - MIB, 0)):
            drop_cached(device.fileno(), offset, MIB)


def read_at(path: str, offset: int, length: int) -> bytes:
    with open(path, "rb", buffering=0) as device:
        drop_cached(device.fileno(), offset, length)
        return os.pread(device.fileno(), length, offset)


def uuid_text(raw: bytes) -> str:
    """Return 16 bytes as the text of a UUID; the import of module uuid would cost each probe 2 ms."""
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
    blocks, log_start = (struct.unpack_from(">Q", raw, offset)[0] for offset in (8, 48))
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
    """Return the offset of the superblock on a member of *size* bytes."""
    if metadata == "1.0":
        return (size // 512 - 16) // 8 * 8 * 512
    if metadata == "0.90":
        return size // (64 * KIB) * (64 * KIB) - 64 * KIB
    try:
        return {"1.1": 0, "1.2": 4 * KIB}[metadata]
    except KeyError:
        raise ReadError(f"the probe cannot read md metadata {metadata}") from None


def md_member(path: str, metadata: str) -> dict[str, Any]:
    return md(path, md_offset(metadata, size_of(path)))


def md_array_of_member(path: str, metadata: str) -> str | None:
    """Return the UUID of the array that a member's superblock names; None without a superblock at its offset."""
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
        words = (struct.unpack_from(order + "I", raw, position)[0] for position in (20, 52, 56, 60))
        uuid, name = "".join(f"{word:08x}" for word in words), ""
        # two words, in the byte order of the machine
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
    """Return the values of a LUKS header that need no key: of its key slots only their number."""
    raw = read_at(path, 0, 4 * KIB)
    if raw[:6] != b"LUKS\xba\xbe":
        raise ReadError(f"{path} has no LUKS header")
    version, size, sequence = struct.unpack_from(">HQQ", raw, 6)
    header = {"uuid": raw[168:208].rstrip(b"\0").decode(), "version": version}
    if version != 2:
        return {
            **header,
            **dict.fromkeys(
                ("sequence", "key_slots", "data_offset_bytes"), unknown_value("the probe reads only LUKS2")
            ),
        }
    metadata = json.loads(read_at(path, 4 * KIB, min(size, 4 * MIB) - 4 * KIB).rstrip(b"\0"))
    return {
        **header,
        "sequence": sequence,
        "key_slots": len(metadata["keyslots"]),
        "data_offset_bytes": int(metadata["segments"]["0"]["offset"]),
    }


# --- witnesses: data that changes with every mount or write ---------------------------------------------------------

MAX_SECTOR = (1 << 64) - 1
REDUNDANT = (1, 4, 5, 6, 10)
RESHAPING, JOURNAL = 1 << 2, 1 << 9
"""Flags of md's feature map. Source: include/uapi/linux/raid/md_p.h."""
LOG_HEADER = 0xFEEDBABE
"""Source: fs/xfs/libxfs/xfs_log_format.h. Every other sector of an XFS log begins with its cycle."""
SECTOR = 512


def witness(path: str, kind: str, offset: int) -> str | None:
    """Return a digest of data that each mount, and each write after it, changes on a device; None if there is none.

    Args:
        kind: Type of the content in libblkid's words.
        offset: Offset of the signature that libblkid reports.
    """
    readers = {"xfs": xfs_witness, "btrfs": btrfs_witness, "linux_raid_member": md_witness}
    reader = ext_witness if kind in ("ext2", "ext3", "ext4") else readers.get(kind)
    content = reader(path, offset) if reader else None
    return hashlib.blake2b(content, digest_size=8).hexdigest() if content else None


def ext_witness(path: str, offset: int) -> bytes | None:
    """Return the superblock, in which a writable mount first records its count and time."""
    return read_at(path, KIB, KIB)


def btrfs_witness(path: str, offset: int) -> bytes | None:
    """Return the superblock, which counts each transaction."""
    return read_at(path, 64 * KIB, 4 * KIB)


def xfs_witness(path: str, offset: int) -> bytes | None:
    """Return the superblock, and the head of the log with the data before it, as each write passes the log first.

    The superblock alone is written only at unmount or at rest. None means that the log is on another device.
    """
    raw = read_at(path, 0, SECTOR)
    block, log_blocks, group_blocks = (
        struct.unpack_from(">I", raw, offset_in_superblock)[0] for offset_in_superblock in (4, 96, 84)
    )
    (start,) = struct.unpack_from(">Q", raw, 48)
    shift = raw[124]
    sectors = log_blocks * block // SECTOR
    if not start or not sectors or shift > 31:
        return None
    log = ((start >> shift) * group_blocks + (start & ((1 << shift) - 1))) * block
    if log + sectors * SECTOR > size_of(path):
        return None
    with open(path, "rb", buffering=0) as device:
        drop_cached(device.fileno(), log, sectors * SECTOR)

        def cycle(sector: int) -> int:
            first, second = struct.unpack(">II", os.pread(device.fileno(), 8, log + sector * SECTOR))
            return int(second if first == LOG_HEADER else first)

        first, low, high = cycle(0), 1, sectors
        while low < high:  # all sectors before the head have the cycle of the first sector
            middle = (low + high) // 2
            low, high = (middle + 1, high) if cycle(middle) == first else (low, middle)
        before = os.pread(device.fileno(), min(low * SECTOR, 64 * KIB), log + max(low * SECTOR - 64 * KIB, 0))
        return raw + b"%d %d" % (first, low) + before


def md_witness(path: str, offset: int) -> bytes | None:
    """Return the superblock of a member if its array records writes there: an array with redundancy, clean and at rest.

    An array without redundancy records no writes, and an array that is not clean has already recorded one.
    """
    raw = read_at(path, offset, 4 * KIB)
    order = BYTE_ORDERS.get(raw[:4])
    if order is None:
        return None
    if struct.unpack_from(order + "I", raw, 4)[0] == 1:
        features, level, resync_offset = (
            struct.unpack_from(layout, raw, position)[0] for layout, position in (("<I", 8), ("<i", 72), ("<Q", 208))
        )
        records_writes = resync_offset == MAX_SECTOR and not features & (RESHAPING | JOURNAL)
    else:
        level, state = (
            struct.unpack_from(order + layout, raw, position)[0] for layout, position in (("i", 28), ("I", 132))
        )
        records_writes = bool(state & 1)
    return raw if records_writes and level in REDUNDANT else None
