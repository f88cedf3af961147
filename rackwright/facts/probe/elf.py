"""The metadata of a kernel module, read from its ELF file without a program."""

from __future__ import annotations

import gzip
import lzma
import struct
from typing import Any, BinaryIO

from rackwright.facts.probe.observe import ReadError

ELF64_LITTLE = b"\x7fELF\x02\x01"
SECTIONS_AT, SECTION_SIZE = 40, 58
"""Offsets in the file header: of the section table's position, and of the entry size, entry count and name index."""
SECTION = struct.Struct("<I20xQQ")
"""Name, offset and size in a section header. Source: elf(5), Elf64_Shdr."""


def modinfo(path: str) -> dict[str, str]:
    """Return the entries of a module's section .modinfo, such as ``name``, ``version`` and ``vermagic``."""
    with open_module(path) as file:
        return dict(word.split("=", 1) for word in read_section(file, b".modinfo").decode().split("\0") if "=" in word)


def open_module(path: str) -> Any:
    if path.endswith(".ko"):
        return open(path, "rb")
    if path.endswith(".ko.xz"):
        return lzma.open(path)
    if path.endswith(".ko.gz"):
        return gzip.open(path)
    raise ReadError(f"{path} has a compression that Python cannot read")


def read_section(file: BinaryIO, section_name: bytes) -> bytes:
    """Return the content of a section of an ELF file."""
    header = file.read(64)
    if header[:6] != ELF64_LITTLE or len(header) < 64:
        raise ReadError("not a module of a 64-bit machine")
    (table,) = struct.unpack_from("<Q", header, SECTIONS_AT)
    size, count, names_at = struct.unpack_from("<3H", header, SECTION_SIZE)
    file.seek(table)
    entries = file.read(size * count)
    sections = [SECTION.unpack_from(entries, size * number) for number in range(count)]
    names = read_piece(file, *sections[names_at][1:])
    for name, offset, length in sections:
        if names[name : names.index(b"\0", name)] == section_name:
            return read_piece(file, offset, length)
    raise ReadError(f"no section {section_name.decode()}")


def read_piece(file: BinaryIO, offset: int, length: int) -> bytes:
    file.seek(offset)
    return file.read(length)
