"""Parquet without what would repeat values: statistics, dictionaries and metadata."""

import os
import re
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

from rackwright.masking.formats import Unreadable
from rackwright.masking.records import Record
from rackwright.schema.masking import MaskingPolicy

ROWS = 5_000
"""Rows that are in memory at a time."""
VALUES_MAX = 1_000_000
"""Most values of a record: as many as an object in JSON may have."""
EXPANSION_MAX, EXPANSION_FROM = 1000, 64 << 20
"""Most bytes of a column for each compressed one, if a row group has so many bytes of it."""
BATCH_BYTES_MAX = 1 << 30
"""Most bytes that a batch of a column with a dictionary may take, if each value is as long as the dictionary."""
_MARK = b"PAR1"
_WRITER = re.compile(r"parquet-cpp-arrow version [0-9]{1,3}(\.[0-9]{1,3}){2}")
"""The writer of masked data: another text in its place may be data."""
_SAME_TYPE = ("keep", "shift_dates")
"""Rules whose results have the type of the values."""


_MANY_VALUES = f"a record has more than {VALUES_MAX:,} values"


class _TooManyValues(Exception):
    """A record has more values than VALUES_MAX."""


class ParquetReader:
    """Reads Parquet."""

    columns: Sequence[str] = ()

    def __init__(self, file: BinaryIO, policy: MaskingPolicy) -> None:
        import pyarrow
        from pyarrow import parquet

        try:
            self._parquet = parquet.ParquetFile(file, memory_map=False, pre_buffer=False)
        except (pyarrow.ArrowException, OSError):
            raise Unreadable("the file is no Parquet") from None
        schema = self._parquet.schema_arrow
        if len({*schema.names}) < len(schema.names):
            raise Unreadable("two columns have the same name")
        self.schema = pyarrow.schema(_fields(schema, "", policy))
        """Types of the masked columns, without metadata."""
        self._names = [name for name in schema.names if not _is_dropped(name, policy)]
        self._rows = _batch_rows(self._parquet.metadata, self._names)

    def __iter__(self) -> Iterator[Record]:
        import pyarrow

        try:
            for batch in self._parquet.iter_batches(self._rows, columns=self._names):
                step = self._rows if _values(batch) <= VALUES_MAX else 1
                for start in range(0, batch.num_rows, step):
                    rows = batch.slice(start, step)
                    if step == 1 and _values(rows) > VALUES_MAX:
                        raise _TooManyValues
                    yield from rows.to_pylist()
        except _TooManyValues:
            raise Unreadable(_MANY_VALUES) from None
        except (pyarrow.ArrowException, ValueError, OSError):
            raise Unreadable("the file is damaged, or has a type that cannot be read exactly") from None


class ParquetWriter:
    """Writes Parquet."""

    def __init__(self, file: BinaryIO, reader: ParquetReader) -> None:
        from pyarrow import parquet

        self._schema = reader.schema
        self._rows: list[Record] = []
        self._parquet = parquet.ParquetWriter(
            file, self._schema, use_dictionary=False, write_statistics=False, store_schema=False
        )

    def write(self, record: Record) -> None:
        """Write one record."""
        self._rows.append({field.name: _fit(record.get(field.name), field.type) for field in self._schema})
        if len(self._rows) >= ROWS:
            self._flush()

    def close(self, is_complete: bool) -> None:
        """Write what is left, if all records were written; the file itself stays open."""
        try:
            if is_complete:
                self._flush()
        finally:
            self._parquet.close()

    def _flush(self) -> None:
        import pyarrow

        if self._rows:
            self._parquet.write_table(pyarrow.Table.from_pylist(self._rows, schema=self._schema))
            self._rows = []


def metadata_leaks(file: BinaryIO) -> list[str]:
    """Return the sorts of places in the Parquet *file* that may repeat values beside its columns."""
    from pyarrow import parquet

    whole = parquet.ParquetFile(file)
    footer, found = whole.metadata, set()
    if footer.metadata or any(field.metadata for field in whole.schema_arrow):
        found.add("metadata")
    for group in range(footer.num_row_groups):
        for index in range(footer.num_columns):
            column = footer.row_group(group).column(index)
            found |= {"statistics"} if column.is_stats_set else set()
            found |= {"a dictionary"} if column.has_dictionary_page else set()
    if not _WRITER.fullmatch(footer.created_by or ""):
        found.add("another program as its writer")
    if not _is_gapless(file, footer):
        found.add("bytes outside of its columns")
    return sorted(found)


def _is_gapless(file: BinaryIO, footer: Any) -> bool:
    """Return whether the columns of *file* follow each other from its mark to its footer."""
    groups = [footer.row_group(index) for index in range(footer.num_row_groups)]
    columns = [group.column(index) for group in groups for index in range(footer.num_columns)]
    place = len(_MARK)
    for column in columns:
        starts = [each for each in (column.dictionary_page_offset, column.data_page_offset) if each is not None]
        if min(starts) != place:
            return False
        place += column.total_compressed_size
    size = file.seek(0, os.SEEK_END)
    return bool(place + footer.serialized_size + 4 + len(_MARK) == size)


def _is_dropped(name: str, policy: MaskingPolicy) -> bool:
    """Return whether the rule of the column *name*, or of all items of its list, is drop: it is not read."""
    rules = [policy.columns[each].rule for each in (name, f"{name}[]") if each in policy.columns]
    return "drop" in rules


def _batch_rows(footer: Any, names: Sequence[str]) -> int:
    """Return the rows that are read at a time, so that a small file takes little memory.

    Raises:
        Unreadable: A column takes much more memory than its bytes.
    """
    read, result = {*names}, ROWS
    for index in range(footer.num_row_groups):
        group = footer.row_group(index)
        for number in range(footer.num_columns):
            column = group.column(number)
            path = column.path_in_schema
            if path not in read and path.partition(".")[0] not in read:
                continue
            values, size = -(-column.num_values // max(group.num_rows, 1)), column.total_uncompressed_size
            if values > VALUES_MAX:
                raise Unreadable(_MANY_VALUES)
            if size > EXPANSION_FROM and size > EXPANSION_MAX * column.total_compressed_size:
                raise Unreadable(f"a column has more than {EXPANSION_MAX:,} bytes for each compressed one")
            if column.has_dictionary_page and column.physical_type == "BYTE_ARRAY":
                result = min(result, BATCH_BYTES_MAX // max(values * size, 1))
    if not result:
        raise Unreadable("a record may take more than 1 GiB: write smaller row groups, or no dictionaries")
    return result


def _values(part: Any) -> int:
    """Return the number of values in *part*, a batch or an array, with those in lists."""
    import pyarrow

    if isinstance(part, pyarrow.RecordBatch):
        return sum(_values(column) for column in part.columns)
    if isinstance(part, pyarrow.StructArray):
        return sum(map(_values, part.flatten()))
    if isinstance(part, pyarrow.ListArray | pyarrow.LargeListArray | pyarrow.FixedSizeListArray):
        return len(part) + _values(part.flatten())
    return len(part)


def _fields(parts: Any, path: str, policy: MaskingPolicy) -> list[Any]:
    """Return the masked fields of *parts*, a schema or a struct; fields without a rule stay, and are refused later."""
    import pyarrow

    found = []
    for part in parts:
        below = f"{path}.{part.name}" if path else part.name
        column = policy.columns.get(below)
        if column is None or column.rule != "drop":
            found.append(pyarrow.field(part.name, _type(part.type, below, policy)))
    return found


def _type(kind: Any, path: str, policy: MaskingPolicy) -> Any:
    import pyarrow

    types = pyarrow.types
    if types.is_struct(kind):
        return pyarrow.struct(_fields(kind, path, policy))
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return pyarrow.list_(_type(kind.value_type, f"{path}[]", policy))
    column = policy.columns.get(path)
    if (
        types.is_nested(kind)
        or types.is_binary(kind)
        or types.is_large_binary(kind)
        or types.is_fixed_size_binary(kind)
    ):
        raise Unreadable("a column has maps or bytes; only a column with the rule drop may have them")
    if types.is_dictionary(kind):
        kind = kind.value_type
    if column is not None and column.rule == "shift_dates" and types.is_timestamp(kind):
        return pyarrow.timestamp(kind.unit)  # without a zone
    return kind if column is not None and column.rule in _SAME_TYPE else pyarrow.string()


def _fit(value: Any, kind: Any) -> Any:
    """Return *value* in the type *kind*: a number that a rule left in a column of texts is a text."""
    import pyarrow

    if value is None:
        return None
    if isinstance(value, dict):
        return {field.name: _fit(value.get(field.name), field.type) for field in kind}
    if isinstance(value, list):
        return [_fit(each, kind.value_type) for each in value]
    return str(value) if pyarrow.types.is_string(kind) and not isinstance(value, str) else value
