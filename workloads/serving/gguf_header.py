"""The header of a GGUF file, checked before llama.cpp reads it: a wrong one ends llama.cpp's process without a reason.

Source: the GGUF specification of ggml, docs/gguf.md: magic, version, counts, then keys with values, then tensors.
"""

import os
import struct
from pathlib import Path
from typing import BinaryIO

from workloads.errors import WorkloadError

VERSIONS = (2, 3)
KEYS, TENSORS, ELEMENTS = 1 << 16, 1 << 20, 1 << 22
"""The most keys, tensors, and elements of one array."""
NAME_BYTES = 1 << 16
DIMENSIONS = 4
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Bytes of a value, by the number of its type."""
_STRING, _ARRAY = 8, 9
_LARGEST = (1 << 63) - 1


class _Wrong(Exception):
    """An error in a header."""


class _Reader:
    """A file read from its start, never beyond its end."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.left = file, os.fstat(file.fileno()).st_size

    def skip(self, size: int) -> None:
        self._take(size)
        self._file.seek(size, os.SEEK_CUR)

    def read(self, size: int) -> bytes:
        self._take(size)
        return self._file.read(size)

    def _take(self, size: int) -> None:
        if size > self.left:
            raise _Wrong("its header ends behind the file")
        self.left -= size

    def number(self, size: int) -> int:
        return int.from_bytes(self.read(size), "little")

    def count(self, most: int, what: str) -> int:
        count = self.number(8)
        if count > most:
            raise _Wrong(f"it says that it has {count} {what}")
        return count


def check(path: Path) -> None:
    """Return if the header of the GGUF file *path* is whole and describes what the file can hold.

    Raises:
        WorkloadError: it does not, or cannot be read.
    """
    try:
        with path.open("rb") as file:
            _check(_Reader(file))
    except (_Wrong, OSError) as error:
        got = f"got a header that is wrong: {error.strerror if isinstance(error, OSError) else error}"
        raise WorkloadError(str(path), got, "it is a GGUF file", "Take the file again") from None


def _check(reader: _Reader) -> None:
    if reader.left < 24 or reader.read(4) != b"GGUF":
        raise _Wrong("it does not begin with GGUF")
    if (version := reader.number(4)) not in VERSIONS:
        raise _Wrong(f"it has version {version}, not {' or '.join(map(str, VERSIONS))}")
    tensors, keys = reader.count(TENSORS, "tensors"), reader.count(KEYS, "keys")
    for _ in range(keys):
        _name(reader)
        _value(reader, reader.number(4))
    offsets = []
    for _ in range(tensors):
        _name(reader)
        dimensions = reader.number(4)
        if dimensions > DIMENSIONS:
            raise _Wrong(f"a tensor has {dimensions} dimensions")
        values = 1
        for size in struct.unpack(f"<{dimensions}Q", reader.read(8 * dimensions)):
            values *= size
        if not 0 < values <= _LARGEST:
            raise _Wrong("a tensor has a size that cannot be")
        reader.skip(4)  # its type
        offsets.append(reader.number(8))
    if any(offset > reader.left for offset in offsets):
        raise _Wrong("a tensor lies behind the end of the file")


def _name(reader: _Reader) -> None:
    size = reader.count(NAME_BYTES, "bytes in a name")
    try:
        reader.read(size).decode()
    except UnicodeDecodeError:
        raise _Wrong("a name is not UTF-8") from None


def _value(reader: _Reader, kind: int) -> None:
    if kind == _STRING:
        reader.skip(reader.number(8))
    elif kind == _ARRAY:
        kind, count = reader.number(4), reader.count(ELEMENTS, "elements in an array")
        if kind == _ARRAY:
            raise _Wrong("an array of arrays")  # llama.cpp takes none either
        if kind in _SIZES:
            reader.skip(count * _SIZES[kind])
        else:
            for _ in range(count):
                _value(reader, kind)
    elif kind in _SIZES:
        reader.skip(_SIZES[kind])
    else:
        raise _Wrong(f"a value has the type {kind}")
