"""Archives from others: tar and zip files whose members are listed and read within bounds of memory, number and time.

Python's tarfile is no reader for them: it takes quadratic time for an extended header without records, recurses for
each extended header, and follows sparse maps. Sources: CVE-2024-6232; POSIX.1-2024, pax; GNU tar manual, "Basic Tar
Format".
"""

import io
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rackwright.foreign import InvalidData, excerpt
from rackwright.foreign.paths import open_regular

HEADERS_MAX = 16 << 20
"""Maximum bytes of the directory of a zip file."""
EXTENDED_MAX = 1 << 20
"""Maximum bytes of an extended header of a tar file; that of a long name has less than 8 KiB."""
EXTENDED_TOTAL = 256 << 20
"""Maximum bytes of all extended headers of a tar file; 200,000 long names need less."""
NAME_MAX = 4096
"""Maximum bytes of a name. Source: PATH_MAX of Linux."""
NAMES_TOTAL = 32 << 20
"""Maximum bytes of all names of a tar file, which are kept in memory; those of 200,000 members may have 160 each."""
EXTENDED_IN_ROW = 16
"""Maximum number of extended headers before one member; GNU tar and pax write at most four."""
SPARSE_BLOCKS_MAX = 10_000
"""Maximum blocks of the map of a sparse file in a tar file; each has 21 entries."""
MEMBERS_MAX = 200_000
"""Maximum number of members; one takes about 1 KiB of memory."""
EXPANSION_MAX = 100
"""Maximum ratio of the members of a zip file to the file itself, beyond `PLAIN_BYTES`; weights shrink by half."""
PLAIN_BYTES = 1 << 30
"""Bytes to which the members of a small zip file may grow."""
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Methods of compression that are unpacked in small parts; one part of bzip2 or LZMA may become gigabytes."""
_ZIP_ERRORS = (
    zipfile.BadZipFile, RuntimeError, EOFError, ValueError, OverflowError, LookupError, struct.error, zlib.error
)  # fmt: skip
"""Errors of Python's zipfile for damaged files: a password, a short member, a wrong name or a wrong field."""
_BLOCK = 1 << 20
_RECORD = 512
"""Bytes of a block of a tar file."""
_ZIP_HEADER = 30
"""Bytes of the header before each member of a zip file, without its name."""
_REGULAR = (b"0", b"\0", b"7")
_WITHOUT_CONTENT = (b"1", b"2", b"3", b"4", b"5", b"6")
"""Links, devices, directories and FIFOs."""
_LOCAL, _GLOBAL, _LONG_NAME, _LONG_LINK = (b"x", b"X"), b"g", b"L", b"K"
_SPARSE, _SPARSE_RECORDS = b"S", "GNU.sparse."
_KEPT = ("path", "size")
"""Keys of records of an extended header that count; the others say nothing about names or places."""


@dataclass(frozen=True, slots=True)
class TarMember:
    """An entry of a tar file."""

    name: bytes
    offset: int
    """Place of its content in the file, in bytes."""
    size: int
    """Bytes of its content."""
    is_regular: bool
    """Whether it is a regular file; a link, device, directory or sparse file is none."""


class TarArchive:
    """An open tar file with its members by name, of which the last of a name counts."""

    def __init__(self, file: io.FileIO, members: Mapping[bytes, TarMember]) -> None:
        self._file, self.members = file, members

    def open(self, name: str) -> io.BufferedReader:
        """Return the content of the regular file *name*.

        Raises:
            KeyError: There is no such regular file.
        """
        member = self.members[name.encode(errors="surrogateescape")]
        if not member.is_regular:
            raise KeyError(name)
        return io.BufferedReader(_Section(self._file.fileno(), member.offset, member.size))


class _Section(io.RawIOBase):
    """A part of a file, with a position of its own."""

    def __init__(self, descriptor: int, offset: int, size: int) -> None:
        self._descriptor, self._offset, self._size, self._position = descriptor, offset, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: "memoryview", /) -> int:  # type: ignore[override]
        size = max(0, min(len(buffer), self._size - self._position))
        content = os.pread(self._descriptor, size, self._offset + self._position)
        buffer[: len(content)] = content
        self._position += len(content)
        return len(content)

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def tell(self) -> int:
        return self._position


@contextmanager
def open_tar(path: Path) -> Iterator[TarArchive]:
    """Yield the uncompressed tar file *path*.

    Raises:
        InvalidData: It is no regular file, damaged, or beyond a bound.
        OSError: It cannot be read.
    """
    with open_regular(path) as file:
        yield TarArchive(file, {member.name: member for member in _Headers(file.fileno()).members()})


class _Headers:
    """A reader of the headers of a tar file, which reads no content of members."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._size, self._position, self._extended, self._names = os.fstat(descriptor).st_size, 0, 0, 0

    def members(self) -> Iterator[TarMember]:
        """Yield all members.

        Raises:
            InvalidData: The file is damaged, or beyond a bound.
        """
        for number in range(MEMBERS_MAX + 1):
            if (member := self._next()) is None:
                if not number and not self._size:
                    raise InvalidData("it is empty")
                return
            yield member
        raise InvalidData(f"it has more than {MEMBERS_MAX} members")

    def _next(self) -> TarMember | None:
        records: dict[str, bytes] = {}
        for in_row in range(EXTENDED_IN_ROW + 1):
            header = self._header()
            if header is None:
                if in_row:
                    raise InvalidData("nothing follows an extended header in it")
                return None
            kind, size = header[156:157], _number(header[124:136])
            if kind in _LOCAL:
                records |= _records(self._content(size))
            elif kind == _LONG_NAME:
                records["path"] = self._content(size).partition(b"\0")[0]
            elif kind == _LONG_LINK:
                self._content(size)
            elif kind == _GLOBAL:
                _records(self._content(size))  # for all members: dates and comments, as git writes them
            else:
                return self._member(header, kind, size, records)
        raise InvalidData(f"it has more than {EXTENDED_IN_ROW} extended headers in a row")

    def _member(self, header: bytes, kind: bytes, size: int, records: Mapping[str, bytes]) -> TarMember:
        size = _decimal(records["size"]) if "size" in records else size
        if kind == _SPARSE:
            self._skip_sparse_map(header[482:483])
        if kind in _WITHOUT_CONTENT:
            size = 0
        offset = self._position
        self._position += size + -size % _RECORD
        if offset + size > self._size:
            raise InvalidData("it is truncated")
        name = _name(header, records)
        self._names += len(name)
        if len(name) > NAME_MAX:
            raise InvalidData(f"a name in it is longer than {NAME_MAX} bytes")
        if self._names > NAMES_TOTAL:
            raise InvalidData(f"its names are longer than {NAMES_TOTAL} bytes")
        return TarMember(name, offset, size, kind in _REGULAR and _SPARSE_RECORDS not in records)

    def _header(self) -> bytes | None:
        """Return the next header; None at the end of the archive."""
        block = os.pread(self._descriptor, _RECORD, self._position)
        self._position += _RECORD
        if not block.strip(b"\0"):
            return None
        if len(block) < _RECORD:
            raise InvalidData("it is truncated")
        plain = sum(block[:148]) + sum(block[156:]) + 8 * ord(" ")
        high = sum(byte >> 7 for byte in (*block[:148], *block[156:]))  # old programs sum signed bytes
        if _number(block[148:156]) not in (plain, plain - 256 * high):
            raise InvalidData("a header in it has another checksum")
        return block

    def _content(self, size: int) -> bytes:
        """Return the content of an extended header."""
        if size > EXTENDED_MAX:
            raise InvalidData(f"a header in it is longer than {EXTENDED_MAX} bytes")
        self._extended += size
        if self._extended > EXTENDED_TOTAL:
            raise InvalidData(f"its headers are longer than {EXTENDED_TOTAL} bytes")
        content = os.pread(self._descriptor, size, self._position)
        if len(content) < size:
            raise InvalidData("it is truncated")
        self._position += size + -size % _RECORD
        return content

    def _skip_sparse_map(self, continues: bytes) -> None:
        for _ in range(SPARSE_BLOCKS_MAX):
            if continues in (b"\0", b""):
                return
            continues = os.pread(self._descriptor, _RECORD, self._position)[504:505]
            self._position += _RECORD
        raise InvalidData("it has a sparse file with too many parts")


def _number(field: bytes) -> int:
    """Return the number in a header: octal digits, or binary if the first bit is set, as GNU tar writes it."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    digits = field.partition(b"\0")[0].strip(b" ") or b"0"
    if digits.strip(b"01234567"):
        raise InvalidData("a header in it has an invalid number")
    return int(digits, 8)


def _decimal(value: bytes) -> int:
    if not value.isdigit() or len(value) > 20:
        raise InvalidData("an extended header in it has an invalid number")
    return int(value)


def _records(content: bytes) -> dict[str, bytes]:
    """Return the records of an extended header that count: ``LENGTH KEY=VALUE`` and a newline.

    LENGTH includes itself. All records of sparse files have one key.
    """
    records = {}
    start = 0
    while start < len(content) and content[start]:  # some programs pad with zeros
        length = content[start : start + 21].partition(b" ")[0]
        end = start + _decimal(length)
        key, equals, value = content[start + len(length) + 1 : end].partition(b"=")
        if not equals or not value.endswith(b"\n") or end > len(content):
            raise InvalidData("an extended header in it has an invalid record")
        if key.startswith(_SPARSE_RECORDS.encode()):
            records[_SPARSE_RECORDS] = b""
        elif (known := key.decode(errors="replace")) in _KEPT:
            records[known] = value[:-1]
        start = end
    return records


def _name(header: bytes, records: Mapping[str, bytes]) -> bytes:
    name, prefix = header[:100].partition(b"\0")[0], header[345:500].partition(b"\0")[0]
    if header[257:263] == b"ustar\0" and prefix:
        name = prefix + b"/" + name
    return records.get("path", name)


class _Directory(io.BufferedReader):
    """A zip file whose reader gets at most `HEADERS_MAX` bytes before `unlimit`."""

    _left: int | None = HEADERS_MAX

    def unlimit(self) -> None:
        """Give the content of members, which their reader bounds."""
        self._left = None

    def read(self, size: int | None = -1, /) -> bytes:
        if self._left is None:
            return super().read(size)
        most = self._left + 1
        content = super().read(most if size is None or not 0 <= size <= most else size)
        self._left -= len(content)
        if self._left < 0:
            raise InvalidData(f"a header in it is longer than {HEADERS_MAX} bytes")
        return content


class ZipArchive:
    """An open zip file, whose members are unpacked in small parts, and share no bytes."""

    def __init__(self, archive: zipfile.ZipFile, file_size: int) -> None:
        self._archive, self.members = archive, tuple(archive.infolist())
        self._left = PLAIN_BYTES + EXPANSION_MAX * file_size

    def parts(self, member: zipfile.ZipInfo) -> Iterator[bytes]:
        """Yield the content of *member*, with its checksum compared at the end.

        Raises:
            InvalidData: It is damaged, or all that was unpacked of the file is too much.
        """
        try:
            with self._archive.open(member) as content:
                while part := content.read(_BLOCK):
                    self._left -= len(part)
                    if self._left < 0:
                        raise InvalidData("its members unpack to too much")
                    yield part
        except InvalidData:
            raise
        except _ZIP_ERRORS as error:
            reason = excerpt(error) or type(error).__name__
            raise InvalidData(f"{excerpt(member.filename)} in it is damaged: {reason}") from None


@contextmanager
def open_zip(path: Path) -> Iterator[ZipArchive]:
    """Yield the zip file *path*.

    Raises:
        InvalidData: It is no regular file, damaged, or beyond a bound.
        OSError: It cannot be read.
    """
    with open_regular(path) as raw, _Directory(raw) as file:
        try:
            archive = zipfile.ZipFile(file)
        except InvalidData:
            raise
        except _ZIP_ERRORS as error:
            raise InvalidData(f"it is damaged: {excerpt(error)}") from None
        with archive:
            file.unlimit()
            size = os.fstat(raw.fileno()).st_size
            _check_members(archive.infolist(), size)
            yield ZipArchive(archive, size)


def _check_members(members: list[zipfile.ZipInfo], file_size: int) -> None:
    if len(members) > MEMBERS_MAX:
        raise InvalidData(f"it has more than {MEMBERS_MAX} members")
    if sum(member.file_size for member in members) > PLAIN_BYTES + EXPANSION_MAX * file_size:
        raise InvalidData("its members unpack to too much")
    end = 0
    for member in sorted(members, key=lambda member: member.header_offset):
        if member.compress_type not in _METHODS:
            raise InvalidData(f"{excerpt(member.filename)} in it is compressed by method {member.compress_type}")
        if member.header_offset < end:
            raise InvalidData(f"{excerpt(member.filename)} in it shares bytes with another member")
        end = member.header_offset + _ZIP_HEADER + member.compress_size
    if end > file_size:
        raise InvalidData("it is truncated")


def check_zip(path: Path) -> None:
    """Unpack all members of the zip file *path*, and compare their checksums; nothing is kept.

    Raises:
        InvalidData: The file or a member is damaged, or a bound is exceeded.
        OSError: The file cannot be read.
    """
    with open_zip(path) as archive:
        for member in archive.members:
            for _ in archive.parts(member):
                pass
