"""CSV in UTF-8, whose first line has the names of the columns."""

import csv
from collections.abc import Iterator, Sequence
from typing import BinaryIO

from rackwright.masking.formats import Unreadable
from rackwright.masking.records import Record
from rackwright.schema.masking import Delimiter

SIGNS: dict[Delimiter, str] = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|"}
FIELD_MAX = 16 << 20
"""Most characters of a field, and bytes of a line."""


class CsvReader:
    """Reads CSV."""

    def __init__(self, file: BinaryIO, delimiter: Delimiter) -> None:
        csv.field_size_limit(FIELD_MAX)
        self._rows = csv.reader(_lines(file), delimiter=SIGNS[delimiter], strict=True)
        self._read = self._next_rows()
        header = next(self._read, None)
        if not header:
            raise Unreadable("the file has no first line with the names of the columns")
        if len({*header}) < len(header):
            raise Unreadable("the first line has the same name twice")
        self._header = header

    @property
    def columns(self) -> Sequence[str]:
        return self._header

    def __iter__(self) -> Iterator[Record]:
        for number, row in enumerate(self._read, 1):
            if len(row) != len(self._header):
                raise Unreadable(f"record {number} has {len(row)} fields, and the first line has {len(self._header)}")
            yield dict(zip(self._header, row, strict=True))

    def _next_rows(self) -> Iterator[list[str]]:
        """Yield each row that is not empty."""
        try:
            for row in self._rows:
                if row:
                    yield row
        except csv.Error:
            raise Unreadable(f"line {self._rows.line_num} is no CSV") from None
        except UnicodeDecodeError:
            raise Unreadable(f"line {self._rows.line_num + 1} is not UTF-8") from None


class CsvWriter:
    """Writes CSV."""

    def __init__(self, file: BinaryIO, delimiter: Delimiter, columns: Sequence[str]) -> None:
        self._writer = csv.writer(_Encoder(file), delimiter=SIGNS[delimiter], lineterminator="\n")
        self._columns = columns
        self._writer.writerow(columns)

    def write(self, record: Record) -> None:
        """Write one record."""
        self._writer.writerow([record[name] for name in self._columns])

    def close(self, is_complete: bool) -> None:
        """Write what is left, if all records were written; the file itself stays open."""


class _Encoder:
    """Writes texts in UTF-8 to a file of bytes, which stays open."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, text: str) -> int:
        return self._file.write(text.encode())


def _lines(file: BinaryIO) -> Iterator[str]:
    is_first = True
    while line := file.readline(FIELD_MAX + 1):
        if len(line) > FIELD_MAX:
            raise csv.Error
        yield line.decode("utf-8-sig" if is_first else "utf-8")
        is_first = False
