"""What a kernel module says of itself, read from its file without any program."""

from __future__ import annotations

import gzip
import lzma
import struct
from typing import Any, BinaryIO

from rackwright.facts.probe.observe import ReadError

ELF64_LITTLE = b"\x7fELF\x02\x01"
SECTIONS_AT, SECTION_SIZE = 40, 58
"""Places in the header of a file: where its table of sections is; how large one is, how many, where their names are."""
SECTION = struct.Struct("<I20xQQ")
"""Name, offset and size, in the header of a section. Source: elf(5), Elf64_Shdr."""


def modinfo(path: str) -> dict[str, str]:
    """Return the words of a module's section .modinfo: ``name``, ``version``, ``vermagic`` and what else there is."""
    with opened(path) as file:
        return dict(word.split("=", 1) for word in section(file, b".modinfo").decode().split("\0") if "=" in word)


def opened(path: str) -> Any:
    if path.endswith(".ko"):
        return open(path, "rb")
    if path.endswith(".ko.xz"):
        return lzma.open(path)
    if path.endswith(".ko.gz"):
        return gzip.open(path)
    raise ReadError(f"{path} is packed as Python cannot unpack it")


def section(file: BinaryIO, wanted: bytes) -> bytes:
    """Return the content of a section of an ELF file."""
    header = file.read(64)
    if header[:6] != ELF64_LITTLE or len(header) < 64:
        raise ReadError("not a module of a 64-bit machine")
    (table,) = struct.unpack_from("<Q", header, SECTIONS_AT)
    size, count, names_at = struct.unpack_from("<3H", header, SECTION_SIZE)
    file.seek(table)
    entries = file.read(size * count)
    found = [SECTION.unpack_from(entries, size * number) for number in range(count)]
    names = piece(file, *found[names_at][1:])
    for name, offset, length in found:
        if names[name : names.index(b"\0", name)] == wanted:
            return piece(file, offset, length)
    raise ReadError(f"no section {wanted.decode()}")


def piece(file: BinaryIO, offset: int, length: int) -> bytes:
    file.seek(offset)
    return file.read(length)
