"""Snapshots: facts of hosts and endpoints in files, for an audit without them."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from rackwright.errors import Diagnostic, UserError
from rackwright.facts import table
from rackwright.facts.facts import FORMAT, Facts
from rackwright.files import write_atomic
from rackwright.foreign import read_file

STAMP = "%Y%m%dT%H%M%S.%fZ"
"""Format of the time in file names, which sort by time."""


class SnapshotError(UserError):
    """A directory of snapshots, or a file in it, cannot be used."""


def save(directory: Path, source: str, facts: Facts, taken_at: datetime | None = None) -> Path:
    """Write *facts* to ``<directory>/<source>/<utc time>.json``, readable by its owner only; on failure no file stays.

    Args:
        taken_at: Time of the observation by this computer's clock, as a host's clock may be wrong; None means now.
    """
    path = directory / source / f"{(taken_at or datetime.now(UTC)).astimezone(UTC).strftime(STAMP)}.json"
    try:
        write_atomic(path, table.dump(facts.raw), 0o600)
    except OSError as error:
        raise SnapshotError(
            Diagnostic(str(path), f"the snapshot cannot be written: {error}", help="Name a writable directory")
        ) from error
    return path


def load(directory: Path, as_of: datetime) -> Mapping[str, Facts]:
    """Return the newest facts of each source that are not later than *as_of*; sources without any are left out.

    Raises:
        SnapshotError: *directory* or a snapshot in it cannot be read, or has another format.
    """
    found = ((host, load_host(directory, host, as_of)) for host in hosts(directory))
    return {host: facts for host, facts in found if facts}


def hosts(directory: Path) -> list[str]:
    """Return the hosts that have a folder in *directory*, sorted.

    Raises:
        SnapshotError: *directory* cannot be read.
    """
    try:
        return sorted(folder.name for folder in directory.iterdir() if folder.is_dir())
    except OSError as error:
        raise _unreadable(directory, error) from error


def load_host(directory: Path, host: str, as_of: datetime) -> Facts | None:
    """Return the newest facts of *host* that are not later than *as_of*; None without any.

    Raises:
        SnapshotError: *directory* or the snapshot cannot be read, or has another format.
    """
    last = f"{as_of.astimezone(UTC).strftime(STAMP)}.json"
    try:
        names = [path.name for path in (directory / host).iterdir()]
    except FileNotFoundError as error:
        if directory.is_dir():
            return None
        raise _unreadable(directory, error) from error
    except OSError as error:
        raise _unreadable(directory / host, error) from error
    fitting = (name for name in names if name[:1].isdecimal() and name.endswith(".json") and name <= last)
    newest = max(fitting, default=None)
    return None if newest is None else read(directory / host / newest)


def _unreadable(directory: Path, error: OSError) -> SnapshotError:
    problem, expected = f"the directory cannot be read: {error}", "a directory that `rackwright audit --save` wrote"
    return SnapshotError(Diagnostic(str(directory), problem, expected, "Correct the path"))


def read(path: Path) -> Facts:
    """Return the facts in the snapshot *path*.

    Raises:
        SnapshotError: It cannot be read, or has another format.
    """
    try:
        raw = table.parse(read_file(path, table.TEXT_BYTES))
        version = raw.get("format")
    except (OSError, ValueError, AttributeError) as error:
        raise SnapshotError(
            Diagnostic(
                str(path),
                f"the file is not a snapshot: {error}",
                "the facts of one host or endpoint",
                "Take the snapshot again, or move the file to another directory",
            )
        ) from error
    if version != FORMAT:
        raise SnapshotError(
            Diagnostic(
                str(path),
                f"the snapshot has format {version}",
                f"format {FORMAT}",
                "Read it with the version of rackwright that wrote it, or move it to another directory",
            )
        )
    return Facts(raw)
