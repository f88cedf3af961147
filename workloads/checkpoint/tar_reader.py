"""Reading of the regular files in a tar stream with bounded memory.

Python's tarfile reads an extended header of any size into memory, follows endless sparse maps, and recurses for each
extended header. Archives of checkpoints need none of these. Source: POSIX.1-2024, pax.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO

BLOCK = 512
EXTENDED_BYTES = 64 << 10
"""Maximum size of an extended header; the archives of `archive` need less than 1 KiB."""
PADDING_BYTES = 1 << 20
"""Maximum padding after the end mark; tar pads to a record of 10 KiB by default."""
_REGULAR, _EXTENDED = (b"0", b"\0"), b"x"


@dataclass(frozen=True, slots=True)
class TarMember:
    """One entry of an archive."""

    name: str
    size: int
    """Size in bytes."""
    regular: bool
    """Whether the member is a regular file, not a link, device, directory or sparse file."""


class TarReader:
    """Reads members in order; `read` returns the content of the current one."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._remaining, self._padding = 0, 0

    def next(self) -> TarMember | None:
        """Return the next member, or None at the end of the archive.

        Raises:
            EOFError: The archive is truncated.
            ValueError: The stream is not a tar archive.
        """
        while self.read(BLOCK << 7):
            pass
        self._read_exactly(self._padding)
        self._padding = 0
        if (header := self._read_header()) is None:
            return None
        extended: Mapping[str, bytes] = {}
        if header[156:157] == _EXTENDED:
            size = _parse_number(header[124:136])
            if size > EXTENDED_BYTES:
                raise ValueError(f"it has an extended header of {size} bytes, at most {EXTENDED_BYTES} are accepted")
            extended = _parse_records(self._read_exactly(size))
            self._read_exactly(-size % BLOCK)
            if (header := self._read_header()) is None:
                raise EOFError("nothing follows an extended header")
        size = _parse_decimal(extended["size"]) if "size" in extended else _parse_number(header[124:136])
        regular = header[156:157] in _REGULAR
        self._remaining, self._padding = (size, -size % BLOCK) if regular else (0, 0)
        return TarMember(_parse_name(header, extended), size, regular)

    def read(self, most: int) -> bytes:
        """Return up to *most* bytes of the current member's content; empty at its end.

        Raises:
            EOFError: The archive is truncated.
        """
        part = self._stream.read(min(most, self._remaining))
        if not part and self._remaining:
            raise EOFError("it ends in the middle of a file")
        self._remaining -= len(part)
        return part

    def finish(self) -> None:
        """Read to the end of the stream, where a compressed archive has its checksum.

        Raises:
            ValueError: More data than padding follows.
        """
        remaining = PADDING_BYTES
        while part := self._stream.read(BLOCK << 7):
            remaining -= len(part)
            if remaining < 0:
                raise ValueError(f"more than {PADDING_BYTES} bytes follow its end")

    def _read_header(self) -> bytes | None:
        block = self._read_exactly(BLOCK, may_end=True)
        if not block.strip(b"\0"):
            return None
        if _parse_number(block[148:156]) != sum(block[:148]) + sum(block[156:]) + 8 * ord(" "):
            raise ValueError("a header has another checksum")
        return block

    def _read_exactly(self, size: int, *, may_end: bool = False) -> bytes:
        content = b""
        while len(content) < size and (part := self._stream.read(size - len(content))):
            content += part
        if len(content) < size and (content or not may_end):
            raise EOFError("it is truncated")
        return content


def _parse_number(field: bytes) -> int:
    """Return the number in a header field: octal digits, or binary if the first bit is set, as GNU tar writes it."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    digits = field.partition(b"\0")[0].strip(b" ") or b"0"
    if digits.strip(b"01234567"):
        raise ValueError("a header has an invalid number")
    return int(digits, 8)


def _parse_decimal(value: bytes) -> int:
    if not value.isdigit() or len(value) > 20:
        raise ValueError("an extended header has an invalid size")
    return int(value)


def _parse_records(content: bytes) -> dict[str, bytes]:
    """Return the records of an extended header: ``LENGTH KEY=VALUE`` and a newline; LENGTH includes itself."""
    records = {}
    while content:
        length = content[:32].partition(b" ")[0]
        end = _parse_decimal(length)
        key, equals, value = content[len(length) + 1 : end].partition(b"=")
        if not equals or not value.endswith(b"\n") or end > len(content):
            raise ValueError("an extended header has an invalid record")
        records[key.decode(errors="backslashreplace")] = value[:-1]
        content = content[end:]
    return records


def _parse_name(header: bytes, extended: Mapping[str, bytes]) -> str:
    name, prefix = header[:100].partition(b"\0")[0], header[345:500].partition(b"\0")[0]
    if header[257:263] == b"ustar\0" and prefix:
        name = prefix + b"/" + name
    return extended.get("path", name).decode(errors="backslashreplace")
