"""The regular files of a tar archive, read from a stream within fixed bounds of memory.

Python's tarfile reads an extended header into memory whatever its size, follows sparse maps without end, and calls
itself once for each extended header. Archives of checkpoints need none of that. Source: POSIX.1-2024, pax.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO

BLOCK = 512
EXTENDED_BYTES = 64 << 10
"""The most of an extended header; ours have less than 1 KiB."""
PADDING_BYTES = 1 << 20
"""The most that may follow the end mark; tar fills up to a record of 10 KiB by default."""
_REGULAR, _EXTENDED = (b"0", b"\0"), b"x"


@dataclass(frozen=True, slots=True)
class Member:
    """One entry of an archive."""

    name: str
    size: int
    """In bytes."""
    regular: bool
    """Whether it is a regular file, and no link, device, directory or sparse file."""


class TarReader:
    """Reads members one after the other; `read` returns the content of the last one."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._left, self._padding = 0, 0

    def next(self) -> Member | None:
        """Return the next member, or None at the end of the archive.

        Raises:
            EOFError: the archive is cut off.
            ValueError: it is not a tar archive.
        """
        while self.read(BLOCK << 7):
            pass
        self._exactly(self._padding)
        self._padding = 0
        if (header := self._header()) is None:
            return None
        extended: Mapping[str, bytes] = {}
        if header[156:157] == _EXTENDED:
            size = _number(header[124:136])
            if size > EXTENDED_BYTES:
                raise ValueError(f"it has an extended header of {size} bytes, at most {EXTENDED_BYTES} are taken")
            extended = _records(self._exactly(size))
            self._exactly(-size % BLOCK)
            if (header := self._header()) is None:
                raise EOFError("nothing follows an extended header")
        size = _decimal(extended["size"]) if "size" in extended else _number(header[124:136])
        regular = header[156:157] in _REGULAR
        self._left, self._padding = (size, -size % BLOCK) if regular else (0, 0)
        return Member(_name(header, extended), size, regular)

    def read(self, most: int) -> bytes:
        """Return up to *most* bytes of the last member's content, none at its end.

        Raises:
            EOFError: the archive is cut off.
        """
        part = self._stream.read(min(most, self._left))
        if not part and self._left:
            raise EOFError("it ends in the middle of a file")
        self._left -= len(part)
        return part

    def finish(self) -> None:
        """Read to the end of the stream, where the checksum of a packed archive stands.

        Raises:
            ValueError: more follows than padding.
        """
        left = PADDING_BYTES
        while part := self._stream.read(BLOCK << 7):
            left -= len(part)
            if left < 0:
                raise ValueError(f"more than {PADDING_BYTES} bytes follow its end")

    def _header(self) -> bytes | None:
        block = self._exactly(BLOCK, may_end=True)
        if not block.strip(b"\0"):
            return None
        if _number(block[148:156]) != sum(block[:148]) + sum(block[156:]) + 8 * ord(" "):
            raise ValueError("a header has another checksum")
        return block

    def _exactly(self, size: int, *, may_end: bool = False) -> bytes:
        content = b""
        while len(content) < size and (part := self._stream.read(size - len(content))):
            content += part
        if len(content) < size and (content or not may_end):
            raise EOFError("it is cut off")
        return content


def _number(field: bytes) -> int:
    """Return the number in a field of a header: octal digits, or binary after a set first bit, as GNU tar writes it."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    digits = field.partition(b"\0")[0].strip(b" ") or b"0"
    if digits.strip(b"01234567"):
        raise ValueError("a header has something else in the place of a number")
    return int(digits, 8)


def _decimal(value: bytes) -> int:
    if not value.isdigit() or len(value) > 20:
        raise ValueError("an extended header has something else in the place of a size")
    return int(value)


def _records(content: bytes) -> dict[str, bytes]:
    """Return the records of an extended header: ``LENGTH KEY=VALUE`` and a newline, LENGTH that of the whole record."""
    found = {}
    while content:
        length = content[:32].partition(b" ")[0]
        end = _decimal(length)
        key, equals, value = content[len(length) + 1 : end].partition(b"=")
        if not equals or not value.endswith(b"\n") or end > len(content):
            raise ValueError("an extended header has a record that is none")
        found[key.decode(errors="backslashreplace")] = value[:-1]
        content = content[end:]
    return found


def _name(header: bytes, extended: Mapping[str, bytes]) -> str:
    name, prefix = header[:100].partition(b"\0")[0], header[345:500].partition(b"\0")[0]
    if header[257:263] == b"ustar\0" and prefix:
        name = prefix + b"/" + name
    return extended.get("path", name).decode(errors="backslashreplace")
