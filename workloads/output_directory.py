"""The directory that a command writes with --out: a new one, or with --replace an earlier output of the same kind.

exported/run                the output, complete or absent
exported/.run.partial       incomplete, while the command runs
exported/run.report.json    the report of a command that has a gate
"""

import os
import shutil
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from workloads.errors import Diagnostic, UserError
from workloads.files import fsync_directory

REPLACE = "Pass --replace, or choose another directory"


@dataclass(frozen=True, slots=True)
class OutputKind:
    """The kind of output that a command writes, and that alone it replaces."""

    noun: str
    """Name of the kind with an article: "an export"."""
    describe: Callable[[Path], str]
    """Function that returns the output in a directory in words; empty if the directory has none of this kind."""


@dataclass(frozen=True, slots=True)
class OutputDirectory:
    """The directory of a command's output."""

    path: Path
    kind: OutputKind
    replace: bool = False
    """Whether the output replaces an earlier one of its kind, and its report."""
    report_suffix: str = ""
    """Suffix of the report's name, such as ".report.json"; empty for a command without a report."""

    @property
    def report(self) -> Path:
        """File or directory of the report, beside *path*; it is written whether the output is published or not."""
        return self.path.with_name(f"{self.path.name}{self.report_suffix}")

    def check(self) -> None:
        """Return if the command may write its output and its report.

        Raises:
            UserError: There is an earlier output or report, and *replace* is not set; or there is anything else.
        """
        self._check_directory()
        if not self.replace and self.report_suffix and os.path.lexists(self.report):
            problem, expected = "an earlier report has this name", f"no report beside {self.path}"
            raise UserError(Diagnostic(str(self.report), problem, expected, REPLACE))

    def _check_directory(self) -> None:
        place, other = str(self.path), "Choose another directory"
        if self.path.name in ("", ".."):
            raise UserError(Diagnostic(place, "the path does not end with a name", "the name of a directory", other))
        if not os.path.lexists(self.path):
            return
        earlier = self.kind.describe(self.path)
        if not earlier:
            problem, expected = f"it exists, and is not {self.kind.noun}", f"no directory, or one with {self.kind.noun}"
            raise UserError(Diagnostic(place, problem, expected, other))
        if not self.replace:
            raise UserError(Diagnostic(place, f"it has {earlier}", "no directory of this name", REPLACE))

    @contextmanager
    def write(self) -> Iterator[Path]:
        """Yield a new directory for the output, which is removed at the end unless `publish` has moved it."""
        partial = self.path.with_name(f".{self.path.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            yield partial
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def publish(self, partial: Path) -> None:
        """Move *partial* to the path.

        Raises:
            UserError: An output has appeared there since `check`, and *replace* is not set.
        """
        self._check_directory()
        replace(partial, self.path)


def replace(partial: Path, directory: Path) -> None:
    """Move *partial* to *directory*; a crash between the two renames leaves both, each under its own name."""
    old = directory.with_name(f".{directory.name}.replaced")
    for path in (old, directory):
        if path.is_symlink() or path.is_file():
            path.unlink()
    shutil.rmtree(old, ignore_errors=True)
    if directory.exists():
        directory.rename(old)
    partial.rename(directory)
    fsync_directory(directory.parent)
    shutil.rmtree(old, ignore_errors=True)


def add_arguments(parser: ArgumentParser, content: str, metavar: str = "DIR") -> None:
    """Add ``--out`` and ``--replace`` to *parser*.

    Args:
        content: The output with its article, for the help: "the export".
    """
    help = f"directory for {content}; an existing one is refused without --replace"
    parser.add_argument("--out", required=True, type=Path, metavar=metavar, help=help)
    help = f"replace an earlier output in {metavar}, and the report beside it; any other directory is still refused"
    parser.add_argument("--replace", action="store_true", help=help)
