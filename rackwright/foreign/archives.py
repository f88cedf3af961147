"""Archives from others: tar and zip files whose members are listed and read within bounds of memory and number."""

import io
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rackwright.foreign import InvalidData, excerpt

HEADERS_MAX = 16 << 20
"""Maximum bytes that the headers of one member of a tar file, or the directory of a zip file, may have."""
MEMBERS_MAX = 200_000
"""Maximum number of members; one takes about 1 KiB of memory."""
EXPANSION_MAX = 100
"""Maximum ratio of the members of a zip file to the file itself, beyond `PLAIN_BYTES`; weights shrink by half."""
PLAIN_BYTES = 1 << 30
"""Bytes to which the members of a small zip file may grow."""
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Methods of compression that are unpacked in small parts; one part of bzip2 or LZMA may become gigabytes."""
_BLOCK = 1 << 20


class _File(io.BufferedReader):
    """A file whose reader gets at most `HEADERS_MAX` bytes before the next `renew`."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self.renew()

    def renew(self) -> None:
        self._left: int | None = HEADERS_MAX

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


@contextmanager
def open_tar(path: Path) -> Iterator[tuple[tarfile.TarFile, dict[str, tarfile.TarInfo]]]:
    """Yield the uncompressed tar file *path* and its members by name, of which the last of a name counts.

    Raises:
        InvalidData: It has too many members, or one with too long headers.
        OSError, tarfile.TarError: It cannot be read.
    """
    with _File(path) as file, tarfile.open(fileobj=file, mode="r:") as archive:
        members: dict[str, tarfile.TarInfo] = {}
        number = 0
        while (member := archive.next()) is not None:
            file.renew()
            number += 1
            if number > MEMBERS_MAX:
                raise InvalidData(f"it has more than {MEMBERS_MAX} members")
            members[member.name] = member
        file.unlimit()
        yield archive, members


def check_zip(path: Path) -> None:
    """Unpack all members of the zip file *path*, and compare their checksums; nothing is kept.

    Raises:
        InvalidData: A member is damaged, or a bound is exceeded.
        OSError, zipfile.BadZipFile: The file cannot be read.
    """
    with _File(path) as file, zipfile.ZipFile(file) as archive:
        file.unlimit()
        members = archive.infolist()
        if len(members) > MEMBERS_MAX:
            raise InvalidData(f"it has more than {MEMBERS_MAX} members")
        left = PLAIN_BYTES + EXPANSION_MAX * path.stat().st_size
        for member in members:
            if member.compress_type not in _METHODS:
                raise InvalidData(f"{excerpt(member.filename)} in it is compressed by method {member.compress_type}")
            left -= _unpack(archive, member, left)


def _unpack(archive: zipfile.ZipFile, member: zipfile.ZipInfo, most: int) -> int:
    """Return the size of *member*, of at most *most* bytes."""
    size = 0
    try:
        with archive.open(member) as content:
            while part := content.read(_BLOCK):
                size += len(part)
                if size > most:
                    raise InvalidData("its members unpack to too much")
    except zipfile.BadZipFile as error:
        raise InvalidData(f"{excerpt(member.filename)} in it is damaged: {excerpt(error)}") from None
    return size
