"""The files of a masking: their names, their formats, and refusals before anything is read."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from rackwright.errors import ChangeRefused, Diagnostic
from rackwright.masking.formats import Format, format_error, format_of
from rackwright.masking.output import MODE, require_free_or_listed
from rackwright.masking.recognisers import Recogniser
from rackwright.schema.masking import MaskingPolicy, TextRules

STDIN = "-"
"""The name of standard input."""


@dataclass(frozen=True)
class Source:
    """One file to read."""

    path: Path | None
    """The file; None for standard input."""
    name: str
    """Name for messages and in the output; in a directory the path below it."""
    form: Format

    @property
    def size(self) -> int:
        """Size in bytes; 0 for standard input."""
        return self.path.stat().st_size if self.path else 0

    @property
    def mode(self) -> int:
        """Rights of the file."""
        return self.path.stat().st_mode & 0o777 if self.path else MODE

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """Yield the open file."""
        if self.path is None:
            yield sys.stdin.buffer
            return
        with self.path.open("rb") as file:
            yield file


def list_sources(source: str, form: Format | None, policy: MaskingPolicy, but: str = "") -> list[Source]:
    """Return the files of *source*: a file, a directory with all below it, or standard input.

    Args:
        form: The format of all files; None for that of each name.
        but: Name of a file in the directory that is left out.

    Raises:
        ChangeRefused: A file is missing, has another format, or a name with an identifier.
    """
    if source == STDIN:
        if form in (None, "parquet"):
            expected = "csv or jsonl: Parquet is read from its end"
            problem = "standard input has no name that says its format" if form is None else f"got the format {form}"
            raise ChangeRefused(Diagnostic("standard input", problem, expected, "Add --format csv or --format jsonl"))
        assert form is not None
        return [Source(None, "standard input", form)]
    root = Path(source)
    if not root.exists():
        raise ChangeRefused(Diagnostic(source, "no such file or directory", "the data to mask", "Correct the name"))
    below = (path for path in root.rglob("*") if not path.is_dir() and path != root / (but or "."))
    paths = sorted(below) if root.is_dir() else [root]
    if not paths:
        raise ChangeRefused(Diagnostic(source, "the directory is empty", "the data to mask", "Correct the name"))
    recogniser = Recogniser(policy.text or TextRules(countries=()))
    errors, found = [], []
    for number, path in enumerate(paths, 1):
        name = str(path.relative_to(root)) if root.is_dir() else path.name
        has_identifier = bool(recogniser.find(name))
        where = f"file {number} of {len(paths)}" if has_identifier else str(path)
        chosen = form or format_of(name)
        if has_identifier:
            problem, expected = "its name has an identifier", "names without identifiers: names are not masked"
            errors.append(Diagnostic(where, problem, expected, "Rename the file"))
        if not path.is_file() or (path.is_symlink() and path != root):
            expected = "files, without links and devices"
            errors.append(Diagnostic(where, "it is no regular file", expected, "Remove it from the directory"))
        elif chosen is None:
            errors.append(format_error(where, name))
        else:
            found.append(Source(path, name, chosen))
    if errors:
        raise ChangeRefused(*errors)
    return found


def check_target(target: Path, source: str, policy: MaskingPolicy) -> None:
    """Return if a masking may write *target*.

    Raises:
        ChangeRefused: The target is the source, lies in it, or is not exactly the output of an earlier masking.
    """
    if Recogniser(policy.text or TextRules(countries=())).find(target.name):
        problem, expected = "its name has an identifier", "a name without identifiers"
        raise ChangeRefused(Diagnostic("--to", problem, expected, "Name another target"))
    if source != STDIN:
        data = Path(source).resolve()
        if target.resolve() == data or data in target.resolve().parents:
            problem, expected = "the target is the source, or lies in it", "another place: the data stay as they are"
            raise ChangeRefused(Diagnostic(str(target), problem, expected, "Name another target"))
    require_free_or_listed(target, source != STDIN and Path(source).is_dir())
