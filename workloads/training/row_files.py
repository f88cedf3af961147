"""Rows of JSON Lines and Parquet files, each with its place, and one report of the malformed ones."""

import hashlib
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from workloads.errors import Diagnostic, UserError
from workloads.foreign import InvalidJson, open_regular, parse_json, read_whole
from workloads.masking_report import report_problem, sha256_of
from workloads.training.config import Conversations, MaskedBy, Preferences, Tasks

LINE_BYTES = 64 << 20
"""Maximum length of a line; a longer one is read in parts, which are no JSON."""
ROWS_AT_ONCE, BATCH_BYTES = 16, 1 << 30
"""The most rows that are read at once from a Parquet file, and the most bytes that its largest column may give them."""
SHOWN_PROBLEMS = 5
PARQUET = ".parquet"

T = TypeVar("T")


class MalformedRow(ValueError):
    """A row that a run cannot learn from, with its remedy."""

    def __init__(self, problem: str, help: str = "Correct the row") -> None:
        self.help = help
        super().__init__(problem)


@contextmanager
def name_place(place: str) -> Iterator[None]:
    """Begin the problems of user errors in this context with *place*, the file and the line."""
    try:
        yield
    except UserError as error:
        named = (replace(each, problem=f"{place}: {each.problem}") for each in error.diagnostics)
        raise UserError(*named) from error


def read_rows(
    config: Conversations | Preferences | Tasks, parse: Callable[[Any], T], expected: str
) -> Iterator[tuple[str, T]]:
    """Yield the rows of all files with their places, in the order of the files' names, as *parse* returns them.

    After the first malformed row, the other ones are only checked.

    Args:
        parse: Function of the JSON value of a row; it raises ValueError for a malformed one.
        expected: Description of a row, for the error.

    Raises:
        UserError: A file is missing or malformed, or no file has a row; the error lists the first problems of all
            files, equal ones once.
    """
    path = Path(config.path)
    files = sorted(path.glob(config.pattern)) if path.is_dir() else [path]
    if not files:
        problem = f"{path} has no file {config.pattern}"
        raise UserError(Diagnostic("data.pattern", problem, help="Correct the path or the pattern"))
    digests = _require_masked(path, files, config.masked_by) if config.masked_by else {}
    first: dict[tuple[str, str], str] = {}
    number: Counter[tuple[str, str]] = Counter()
    is_empty = True
    for place, row in chain.from_iterable(_rows(file, digests.get(file)) for file in files):
        is_empty = False
        try:
            if isinstance(row, ValueError):
                raise row
            parsed = parse(row)
        except ValueError as error:
            help = error.help if isinstance(error, MalformedRow) else "Correct the row"
            key = str(error), help
            first.setdefault(key, place)
            number[key] += 1
            if len(first) == SHOWN_PROBLEMS:
                break
        else:
            if not first:
                yield place, parsed
    if first:
        raise UserError(*(_diagnose(first[each], number[each], *each, expected) for each in first))
    if is_empty:
        shown = path / config.pattern if path.is_dir() else path
        help = "Write rows to the file, or name another one"
        raise UserError(Diagnostic("data.path", f"{shown} is empty: it has no row", expected, help))


def _diagnose(place: str, number: int, problem: str, help: str, expected: str) -> Diagnostic:
    """Return the diagnostic of a *problem* that a *number* of rows have, the first of them in *place*."""
    more = number - 1
    note = f"{more} more {'row has' if more == 1 else 'rows have'} the same problem" if more else ""
    return Diagnostic("data.path", f"{place}: {problem}", expected, help, note)


def _require_masked(path: Path, files: Sequence[Path], masked_by: MaskedBy) -> dict[Path, str]:
    """Return the digests of *files* if they are those that the masking policy made, as the report beside them says.

    Raises:
        UserError: They are not, or there is no such report.
    """
    try:
        digests = {file: sha256_of(file) for file in files}
        problem = report_problem(path, digests, masked_by.sha256)
    except OSError as error:
        problem = f"a file cannot be read: {error.strerror}"
    if problem:
        expected = f"data with their report of the policy {masked_by.policy}, {masked_by.sha256[:12]}…"
        help = "Copy the output of `rackwright mask` and its report here"
        raise UserError(Diagnostic("data.masked_by", f"{path}: {problem}", expected, help))
    return digests


def _open(file: Path, sha256: str | None) -> BinaryIO:
    """Return *file*, opened for reading; with *sha256* its content in memory, which has that digest.

    Raises:
        OSError: The file cannot be read.
        UserError: It has another content: it changed after its digest was compared with the report.
    """
    if sha256 is None:
        return open_regular(file, follow=True)
    content = read_whole(file)
    if hashlib.sha256(content).hexdigest() != sha256:
        problem = f"{file} changed after its digest was compared with the report"
        raise UserError(Diagnostic("data.masked_by", problem, "files that stay as they are", "Copy the data again"))
    return io.BytesIO(content)


def _rows(file: Path, sha256: str | None = None) -> Iterator[tuple[str, Any]]:
    """Yield each row of *file* with its place; a row that is no JSON is its error.

    Args:
        sha256: Digest of the content; None for any content.
    """
    try:
        if file.suffix == PARQUET:
            for number, row in enumerate(_parquet_rows(_open(file, sha256)), 1):
                yield f"{file}, row {number}", row
            return
        with _open(file, sha256) as lines:
            for number, line in enumerate(iter(lambda: lines.readline(LINE_BYTES), b""), 1):
                if line.strip():
                    yield f"{file}:{number}", _parse_line(line)
    except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors
        problem = f"{file} cannot be read: {error}"
        help, note = "Copy the file to this host, as JSON Lines or Parquet", "every host of the run reads it"
        raise UserError(Diagnostic("data.path", problem, help=help, note=note)) from error


def _parquet_rows(content: BinaryIO) -> Iterator[Any]:
    """Yield the rows of a Parquet file, or the error that a row is too long: few at a time, since equal texts take no
    room in a file and much in memory.
    """
    from pyarrow import parquet

    opened = parquet.ParquetFile(content)
    meta = opened.metadata
    sizes = [
        meta.row_group(group).column(column).total_uncompressed_size
        for group in range(meta.num_row_groups)
        for column in range(meta.num_columns)
    ]
    rows = max(1, min(ROWS_AT_ONCE, BATCH_BYTES // max([*sizes, 1])))
    for batch in opened.iter_batches(batch_size=rows):
        if batch.nbytes <= LINE_BYTES:
            yield from batch.to_pylist()
            continue
        for number in range(len(batch)):
            row = batch.slice(number, 1)
            too_long = MalformedRow(f"the row has more than {LINE_BYTES >> 20} MiB", "Shorten or remove it")
            yield too_long if row.nbytes > LINE_BYTES else row.to_pylist()[0]


def _parse_line(line: bytes) -> Any:
    """Return the JSON value of *line*, or the error that it is none."""
    try:
        value = parse_json(line.decode().rstrip(), LINE_BYTES, lenient=True)
        if b"\\ud" in line.lower():
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except UnicodeEncodeError:
        return MalformedRow("the line has one half of a UTF-16 pair", "Correct or remove the character")
    except UnicodeDecodeError:
        help = "Convert the file, for example by `iconv -f ISO-8859-1 -t UTF-8`"
        return MalformedRow("the line is no UTF-8", help)
    except InvalidJson as error:
        return MalformedRow(f"the line is no JSON: {error.problem} in column {error.column}")
    except ValueError as error:
        return MalformedRow(f"the line is no JSON: {error}")
