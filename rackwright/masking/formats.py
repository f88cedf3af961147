"""The formats of data: the record readers and writers of each, by the ends of file names."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import PurePath
from typing import BinaryIO, Literal, Protocol

from rackwright.errors import ChangeRefused, Diagnostic, StepFailed, UserError
from rackwright.masking.records import Record
from rackwright.schema.masking import MaskingPolicy

Format = Literal["csv", "jsonl", "parquet"]
SUFFIXES: dict[str, Format] = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}
PICKLES = (".npy", ".npz", ".pkl", ".pickle", ".pt", ".joblib")
"""Ends of files that may hold Python objects, whose readers run code."""


class Unreadable(ValueError):
    """Data that are not of their format. The text names the number of the record and quotes nothing."""


class RecordReader(Protocol):
    """Reads the records of one file."""

    @property
    def columns(self) -> Sequence[str]:
        """Columns that the file names before its records; empty if each record names its own."""
        ...

    def __iter__(self) -> Iterator[Record]: ...


class RecordWriter(Protocol):
    """Writes records to one file."""

    def write(self, record: Record) -> None:
        """Write one record."""
        ...

    def close(self, is_complete: bool) -> None:
        """Write what is left, if all records were written; the file itself stays open."""
        ...


def format_of(name: str) -> Format | None:
    """Return the format of the file *name*; None if it is not known."""
    return SUFFIXES.get(PurePath(name).suffix.lower())


def format_error(where: str, name: str) -> Diagnostic:
    """Return the diagnostic of the file *name* at *where*, whose format is not known."""
    suffix = PurePath(name).suffix.lower()
    if suffix in PICKLES:
        problem = f"files that end with {suffix} may hold Python objects, and reading them runs code"
        return Diagnostic(where, problem, "CSV, JSON Lines or Parquet", "Convert the data to Parquet")
    expected = f"a name that ends with {', '.join(SUFFIXES)}"
    return Diagnostic(where, "the format of the data is not known", expected, "Convert the file, or name its --format")


def open_reader(file: BinaryIO, form: Format, policy: MaskingPolicy) -> RecordReader:
    """Return the reader of *file*.

    Raises:
        Unreadable: The beginning of the file is not of the format.
    """
    if form == "csv":
        from rackwright.masking.csv_format import CsvReader

        return CsvReader(file, policy.delimiter)
    if form == "jsonl":
        from rackwright.masking.jsonl_format import JsonlReader

        return JsonlReader(file)
    from rackwright.masking.parquet_format import ParquetReader

    return ParquetReader(file, policy)


def open_writer(file: BinaryIO, form: Format, reader: RecordReader, policy: MaskingPolicy) -> RecordWriter:
    """Return the writer of the masked records of *reader*."""
    if form == "csv":
        from rackwright.masking.csv_format import CsvWriter

        kept = [name for name in reader.columns if name in policy.columns and policy.columns[name].rule != "drop"]
        return CsvWriter(file, policy.delimiter, kept)
    if form == "jsonl":
        from rackwright.masking.jsonl_format import JsonlWriter

        return JsonlWriter(file)
    from rackwright.masking.parquet_format import ParquetReader, ParquetWriter

    assert isinstance(reader, ParquetReader)
    return ParquetWriter(file, reader)


@contextmanager
def quoting_nothing(where: str) -> Iterator[None]:
    """Replace each error of the block, whose text may quote a value, by one that does not.

    Raises:
        ChangeRefused: The data at *where* cannot be read or masked.
        StepFailed: Reading or writing failed.
    """
    try:
        yield
    except UserError:
        raise
    except Unreadable as error:
        expected = "data of the format that the name or --format says"
        raise ChangeRefused(Diagnostic(where, str(error), expected, "Correct the data")) from None
    except OSError as error:
        problem = f"reading or writing failed: {error.strerror or type(error).__name__}"
        raise StepFailed(Diagnostic(where, problem, help="Correct the cause, and run it again")) from None
    except Exception as error:
        problem = f"a record cannot be read or masked ({type(error).__name__})"
        raise ChangeRefused(Diagnostic(where, problem, help="Convert the data to JSON Lines")) from None
