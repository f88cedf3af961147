"""Check the header of a GGUF file before llama.cpp reads it: a wrong header crashes llama.cpp without a reason.

Source: the GGUF specification of ggml, docs/gguf.md: magic, version, counts, then keys with values, then tensors.
"""

import os
import struct
from pathlib import Path
from typing import BinaryIO

from workloads.errors import Diagnostic, UserError
from workloads.foreign import open_regular

VERSIONS = (2, 3)
MAX_KEYS, MAX_TENSORS, MAX_ELEMENTS = 1 << 16, 1 << 20, 1 << 22
"""The most keys, tensors, and elements of one array."""
NAME_BYTES = 1 << 16
DIMENSIONS = 4
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Bytes of a value, by the number of its type."""
_INTEGERS = (0, 1, 2, 3, 4, 5, 10, 11)
_STRING, _ARRAY = 8, 9
_LARGEST = (1 << 63) - 1
SPLIT_COUNT = "split.count"
"""The key with the number of files of a model. Source: gguf-split of llama.cpp."""
CONTEXT_LENGTH = ".context_length"
"""The end of the key with the tokens of a text for which the model is made; it begins with the architecture."""


class _HeaderError(Exception):
    """An error in a header."""


class _Split(_HeaderError):
    """A header of one file of several."""


class _Reader:
    """A file read from its start, never beyond its end."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.remaining = file, os.fstat(file.fileno()).st_size

    def skip(self, size: int) -> None:
        self._consume(size)
        self._file.seek(size, os.SEEK_CUR)

    def read(self, size: int) -> bytes:
        self._consume(size)
        return self._file.read(size)

    def _consume(self, size: int) -> None:
        if size > self.remaining:
            raise _HeaderError("the header ends after the end of the file")
        self.remaining -= size

    def number(self, size: int) -> int:
        return int.from_bytes(self.read(size), "little")

    def count(self, most: int, noun: str) -> int:
        count = self.number(8)
        if count > most:
            raise _HeaderError(f"it claims {count} {noun}")
        return count


def check(path: Path) -> int | None:
    """Check that the header of the GGUF file *path* is complete and consistent with the file's size.

    Return the tokens of the model's context, which llama.cpp never exceeds; None if the header does not have them.

    Raises:
        UserError: the header is wrong, the file cannot be read, or it is one file of several: the others are in no
            published model.
    """
    try:
        with open_regular(path, follow=True) as file:
            return _check(_Reader(file))
    except _Split as error:
        help = "Merge the files with `llama-gguf-split --merge FIRST.gguf MODEL.gguf` of llama.cpp, and use that file"
        raise UserError(Diagnostic(str(path), str(error), "a model in one file", help)) from None
    except (_HeaderError, OSError) as error:
        problem = f"the header is invalid: {error.strerror if isinstance(error, OSError) else error}"
        raise UserError(Diagnostic(str(path), problem, "a GGUF file", "Download the file again")) from None


def _check(reader: _Reader) -> int | None:
    if reader.remaining < 24 or reader.read(4) != b"GGUF":
        raise _HeaderError("it does not begin with GGUF")
    if (version := reader.number(4)) not in VERSIONS:
        raise _HeaderError(f"it has version {version}, not {' or '.join(map(str, VERSIONS))}")
    tensors, keys = reader.count(MAX_TENSORS, "tensors"), reader.count(MAX_KEYS, "keys")
    context_tokens = None
    for _ in range(keys):
        name, kind = _name(reader), reader.number(4)
        if name.endswith(CONTEXT_LENGTH) and kind in _INTEGERS:
            context_tokens = reader.number(_SIZES[kind]) or None
        elif name == SPLIT_COUNT and kind in _SIZES:
            if (files := reader.number(_SIZES[kind])) > 1:
                raise _Split(f"the model is split into {files} files, and this is one of them")
        else:
            _value(reader, kind)
    offsets = []
    for _ in range(tensors):
        _name(reader)
        dimensions = reader.number(4)
        if dimensions > DIMENSIONS:
            raise _HeaderError(f"a tensor has {dimensions} dimensions")
        values = 1
        for size in struct.unpack(f"<{dimensions}Q", reader.read(8 * dimensions)):
            values *= size
        if not 0 < values <= _LARGEST:
            raise _HeaderError("a tensor has an impossible size")
        reader.skip(4)  # its type
        offsets.append(reader.number(8))
    if any(offset > reader.remaining for offset in offsets):
        raise _HeaderError("a tensor lies after the end of the file")
    return context_tokens


def _name(reader: _Reader) -> str:
    size = reader.count(NAME_BYTES, "bytes in a name")
    try:
        return reader.read(size).decode()
    except UnicodeDecodeError:
        raise _HeaderError("a name is not UTF-8") from None


def _value(reader: _Reader, kind: int) -> None:
    if kind == _STRING:
        reader.skip(reader.number(8))
    elif kind == _ARRAY:
        kind, count = reader.number(4), reader.count(MAX_ELEMENTS, "elements in an array")
        if kind == _ARRAY:
            raise _HeaderError("an array of arrays")  # llama.cpp takes none either
        if kind in _SIZES:
            reader.skip(count * _SIZES[kind])
        else:
            for _ in range(count):
                _value(reader, kind)
    elif kind in _SIZES:
        reader.skip(_SIZES[kind])
    else:
        raise _HeaderError(f"a value has the type {kind}")
