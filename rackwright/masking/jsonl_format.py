"""JSON Lines: one object in each line."""

import json
from collections.abc import Iterator, Sequence
from typing import BinaryIO

from rackwright.foreign import InvalidData, parse_object
from rackwright.masking.formats import Unreadable
from rackwright.masking.records import Record

LINE_MAX = 16 << 20
"""Most bytes of a line."""
_MARK = b"\xef\xbb\xbf"


class JsonlReader:
    """Reads JSON Lines."""

    columns: Sequence[str] = ()

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def __iter__(self) -> Iterator[Record]:
        number = 0
        while line := self._file.readline(LINE_MAX + 1):
            number += 1
            if number == 1:
                line = line.removeprefix(_MARK)
            if not line.strip():
                continue
            try:
                yield parse_object(line, LINE_MAX)
            except InvalidData:  # its text may quote a key
                raise Unreadable(
                    f"line {number} is no JSON object of at most {LINE_MAX >> 20} MiB with each key once"
                ) from None


class JsonlWriter:
    """Writes JSON Lines."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, record: Record) -> None:
        """Write one record."""
        self._file.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")

    def close(self, is_complete: bool) -> None:
        """Write what is left, if all records were written; the file itself stays open."""
