"""Parquet without what would repeat values: statistics, dictionaries and metadata."""

from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

from rackwright.masking.formats import Unreadable
from rackwright.masking.records import Record
from rackwright.schema.masking import MaskingPolicy

ROWS = 5_000
"""Rows that are in memory at a time."""
_SAME_TYPE = ("keep", "shift_dates")
"""Rules whose results have the type of the values."""


class ParquetReader:
    """Reads Parquet."""

    columns: Sequence[str] = ()

    def __init__(self, file: BinaryIO, policy: MaskingPolicy) -> None:
        import pyarrow
        from pyarrow import parquet

        try:
            self._parquet = parquet.ParquetFile(file)
        except (pyarrow.ArrowException, OSError):
            raise Unreadable("the file is no Parquet") from None
        schema = self._parquet.schema_arrow
        if len({*schema.names}) < len(schema.names):
            raise Unreadable("two columns have the same name")
        self.schema = pyarrow.schema(_fields(schema, "", policy))
        """Types of the masked columns, without metadata."""

    def __iter__(self) -> Iterator[Record]:
        import pyarrow

        try:
            for batch in self._parquet.iter_batches(ROWS):
                yield from batch.to_pylist()
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
    return sorted(found)


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
