"""The files of a masking: their names, their formats, and refusals before anything is read."""

import io
import os
import stat
import sys
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from rackwright.errors import ChangeRefused, Diagnostic
from rackwright.foreign import InvalidData
from rackwright.foreign.paths import open_below, open_regular
from rackwright.masking.formats import Format, Unreadable, format_error, format_of
from rackwright.masking.output import MODE, require_free_or_listed
from rackwright.masking.recognisers import Recogniser
from rackwright.schema.masking import MaskingPolicy, TextRules

STDIN = "-"
"""The name of standard input."""


class Root:
    """The open directory of a source: its files are found below it, wherever its name leads later."""

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self.descriptor)


@dataclass(frozen=True)
class Source:
    """One file to read."""

    path: Path | None
    """The file; None for standard input."""
    name: str
    """Name for messages and in the output; in a directory the path below it."""
    form: Format
    root: Root | None = None
    """The directory of *name*; None for a single file."""
    size: int = 0
    """Size in bytes; 0 for standard input."""
    mode: int = MODE
    """Rights of the file."""

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """Yield the open file.

        Raises:
            Unreadable: It is no regular file, or has been one only when the files were listed.
        """
        if self.path is None:
            yield sys.stdin.buffer
            return
        try:
            raw = open_regular(self.path) if self.root is None else open_below(self.root.descriptor, self.name)
        except InvalidData:
            raise Unreadable("it is no regular file") from None
        with io.BufferedReader(raw) as file:
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
    if not Path(source).exists():
        raise ChangeRefused(Diagnostic(source, "no such file or directory", "the data to mask", "Correct the name"))
    root = Path(source).resolve() if Path(source).is_symlink() else Path(source)
    folder = Root(root) if root.is_dir() else None
    below = (path for path in root.rglob("*") if _is_leaf(path) and path != root / (but or "."))
    paths = sorted(below) if folder else [root]
    if not paths:
        raise ChangeRefused(Diagnostic(source, "the directory is empty", "the data to mask", "Correct the name"))
    recogniser = Recogniser(policy.text or TextRules(countries=()))
    errors, found = [], []
    for number, path in enumerate(paths, 1):
        name = str(path.relative_to(root)) if folder else Path(source).name
        has_identifier = bool(recogniser.find(name))
        where = f"file {number} of {len(paths)}" if has_identifier else str(path)
        chosen = form or format_of(name)
        if has_identifier:
            problem, expected = "its name has an identifier", "names without identifiers: names are not masked"
            errors.append(Diagnostic(where, problem, expected, "Rename the file"))
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode):
            expected = "files, without links and devices"
            errors.append(Diagnostic(where, "it is no regular file", expected, "Remove it from the directory"))
        elif chosen is None:
            errors.append(format_error(where, name))
        else:
            found.append(Source(path, name, chosen, folder, status.st_size, status.st_mode & 0o777))
    if errors:
        raise ChangeRefused(*errors)
    return found


def _is_leaf(path: Path) -> bool:
    """Return whether *path* is no directory: a link to one is a link."""
    return path.is_symlink() or not path.is_dir()


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
