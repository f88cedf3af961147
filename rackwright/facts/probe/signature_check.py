"""The check that wipefs reports all signatures: those that the kernel uses, and those that the probe reads itself.

A broken or replaced tool must not make a device with data look empty.
"""

from __future__ import annotations

import os
import struct
from typing import Any, Iterator

from rackwright.facts.probe import superblocks
from rackwright.facts.probe.observe import ReadError, unwrap

HEAD = 8 << 10
"""Bytes at the start of a device that contain the superblocks that this module checks."""
EXT_TYPES = ("ext2", "ext3", "ext4", "ext4dev", "jbd")
"""Types in libblkid of filesystems with the superblock of ext4."""
LARGEST_BLOCK = 6
"""Binary logarithm of ext4's largest block (64 KiB) in KiB."""
SAMPLE_UUID = bytes(range(16))
SAMPLE = {
    "offset": 0xFF6,
    "type": "swap",
    "usage": "other",
    "uuid": superblocks.uuid_text(SAMPLE_UUID),
    "label": None,
}
"""Signature that wipefs reports for the file of sample()."""


def sample() -> int:
    """Return a descriptor of a memory file that begins like swap space. Source: Linux, include/linux/swap.h."""
    file = os.memfd_create("sample")
    os.ftruncate(file, 64 << 10)
    os.pwrite(file, struct.pack("<3I", 1, 1, 0) + SAMPLE_UUID, 1024)
    os.pwrite(file, b"SWAPSPACE2", 4086)
    return file


def check(machine: Any, name: str, signatures: Any) -> Any:
    """Return *signatures* of a device, unless another source reports a signature that is not among them.

    Raises:
        ReadError: the sources disagree; names both and the missing signature.
    """
    types = [signature["type"] for signature in unwrap(signatures)]
    summary = f"wipefs finds {', '.join(types) or 'nothing'} on {name}"
    for mount in unwrap(machine.mounts):
        if mount["device"] == name and not any(signature["usage"] == "filesystem" for signature in signatures):
            raise ReadError(f"{summary}, and {mount['type']} is mounted from it at {mount['target']}")
    if name in unwrap(machine.swaps) and "swap" not in types:
        raise ReadError(f"{summary}, and it is in use as swap space")
    for name_of_superblock, offset, names in read_superblocks(machine.path(name)):
        if not set(names) & set(types):
            raise ReadError(f"{summary}, and there is a superblock of {name_of_superblock} at byte {offset} of it")
    return signatures


def read_superblocks(path: str) -> Iterator[tuple[str, int, tuple[str, ...]]]:
    """Yield each superblock on a device: what it belongs to, its offset, and its types in libblkid."""
    with open(path, "rb", buffering=0) as device:
        size = device.seek(0, os.SEEK_END)
        raw = os.pread(device.fileno(), HEAD, 0)
        last = superblocks.md_offset("1.0", size) if size > HEAD else 0
        end = os.pread(device.fileno(), 4 << 10, last)
    if is_ext(raw[1024:2048]):
        yield "ext2, ext3 or ext4", 1024, EXT_TYPES
    if raw[:4] == b"XFSB":
        yield "XFS", 0, ("xfs",)
    if raw[:6] == b"LUKS\xba\xbe":
        yield "LUKS", 0, ("crypto_LUKS",)
    for offset, block in ((0, raw), (4 << 10, raw[4 << 10 :]), (last, end)):
        if is_md(block, offset):
            yield "md", offset, ("linux_raid_member",)
            break


def is_ext(raw: bytes) -> bool:
    if len(raw) < 1024 or raw[56:58] != b"\x53\xef":
        return False
    inodes, blocks = struct.unpack_from("<2I", raw)
    return bool(inodes and blocks and struct.unpack_from("<I", raw, 24)[0] <= LARGEST_BLOCK)


def is_md(raw: bytes, offset: int) -> bool:
    """Return whether *raw* begins with a superblock of md's version 1 that names *offset* as its own."""
    if len(raw) < 256 or raw[:4] != b"\xfc\x4e\x2b\xa9":
        return False
    version, (sector,) = struct.unpack_from("<I", raw, 4)[0], struct.unpack_from("<Q", raw, 144)
    return bool(version == 1 and sector * 512 == offset)
