"""Whether the signatures that wipefs finds can be all: what the kernel uses and what we read ourselves has to be there.

A tool that is broken, or was exchanged, must not make a device with data on it look empty.
"""

from __future__ import annotations

import os
import struct
from typing import Any, Iterator

from rackwright.facts.probe import superblocks
from rackwright.facts.probe.observe import ReadError, known

HEAD = 8 << 10
"""Bytes at the start of a device in which the superblocks stand that are looked for."""
EXT = ("ext2", "ext3", "ext4", "ext4dev", "jbd")
"""Names that libblkid has for a filesystem with the superblock of ext4."""
LARGEST_BLOCK = 6
"""The logarithm of ext4's largest block, of 64 KiB, by 1 KiB."""
SAMPLE_UUID = bytes(range(16))
SAMPLE = {
    "offset": 0xFF6,
    "type": "swap",
    "usage": "other",
    "uuid": superblocks.uuid_text(SAMPLE_UUID),
    "label": None,
}
"""The signatures that wipefs finds in the file that sample() makes."""


def sample() -> int:
    """Return a descriptor of a file in memory that begins as swap space does. Source: Linux, include/linux/swap.h."""
    file = os.memfd_create("sample")
    os.ftruncate(file, 64 << 10)
    os.pwrite(file, struct.pack("<3I", 1, 1, 0) + SAMPLE_UUID, 1024)
    os.pwrite(file, b"SWAPSPACE2", 4086)
    return file


def check(machine: Any, name: str, found: Any) -> Any:
    """Return the signatures *found* on a device, unless another source knows of one that is not among them.

    Raises:
        ReadError: says which, and what both sources say.
    """
    types = [signature["type"] for signature in known(found)]
    listed = f"wipefs finds {', '.join(types) or 'nothing'} on {name}"
    for mount in known(machine.mounts):
        if mount["device"] == name and not any(signature["usage"] == "filesystem" for signature in found):
            raise ReadError(f"{listed}, and {mount['type']} is mounted from it at {mount['target']}")
    if name in known(machine.swaps) and "swap" not in types:
        raise ReadError(f"{listed}, and it is in use as swap space")
    for what, place, names in read(machine.path(name)):
        if not set(names) & set(types):
            raise ReadError(f"{listed}, and there is a superblock of {what} at byte {place} of it")
    return found


def read(path: str) -> Iterator[tuple[str, int, tuple[str, ...]]]:
    """Yield each superblock on a device: of what, where, and what libblkid calls that."""
    with open(path, "rb", buffering=0) as device:
        size = device.seek(0, os.SEEK_END)
        raw = os.pread(device.fileno(), HEAD, 0)
        last = superblocks.md_offset("1.0", size) if size > HEAD else 0
        end = os.pread(device.fileno(), 4 << 10, last)
    if is_ext(raw[1024:2048]):
        yield "ext2, ext3 or ext4", 1024, EXT
    if raw[:4] == b"XFSB":
        yield "XFS", 0, ("xfs",)
    if raw[:6] == b"LUKS\xba\xbe":
        yield "LUKS", 0, ("crypto_LUKS",)
    for place, block in ((0, raw), (4 << 10, raw[4 << 10 :]), (last, end)):
        if is_md(block, place):
            yield "md", place, ("linux_raid_member",)
            break


def is_ext(raw: bytes) -> bool:
    if len(raw) < 1024 or raw[56:58] != b"\x53\xef":
        return False
    inodes, blocks = struct.unpack_from("<2I", raw)
    return bool(inodes and blocks and struct.unpack_from("<I", raw, 24)[0] <= LARGEST_BLOCK)


def is_md(raw: bytes, place: int) -> bool:
    """Return whether there is a superblock of md's version 1 that says that it stands at *place*."""
    if len(raw) < 256 or raw[:4] != b"\xfc\x4e\x2b\xa9":
        return False
    version, (sector,) = struct.unpack_from("<I", raw, 4)[0], struct.unpack_from("<Q", raw, 144)
    return bool(version == 1 and sector * 512 == place)
