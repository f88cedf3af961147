"""Facts in files: what hosts were at a time, for an audit without them."""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from rackwright.errors import RackwrightError
from rackwright.facts.facts import FORMAT, Facts

STAMP = "%Y%m%dT%H%M%S.%fZ"
"""Sorts by time."""


class SnapshotError(RackwrightError):
    """A directory of snapshots, or a file in it, that cannot be used."""


def save(directory: Path, host: str, facts: Facts, at: datetime | None = None) -> Path:
    """Write *facts* to ``<directory>/<host>/<utc time>.json``, readable by its owner only, wholly or not at all.

    Args:
        at: When they were taken, by this computer's clock (a host's may be wrong); now when None.
    """
    text = json.dumps(facts.raw, sort_keys=True, separators=(",", ":"))
    path = directory / host / f"{(at or datetime.now(UTC)).astimezone(UTC).strftime(STAMP)}.json"
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.touch(mode=0o600)
        with beside.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        with suppress(OSError):
            beside.unlink()
        raise SnapshotError(
            str(path), str(error), "a snapshot has to be written", "Name a directory that can be written to"
        ) from error
    return path


def load(directory: Path, as_of: datetime) -> Mapping[str, Facts]:
    """Return for each host its newest facts that are not later than *as_of*; hosts without any are left out.

    Raises:
        SnapshotError: *directory* or a snapshot in it cannot be read, or is of another format.
    """
    last = f"{as_of.astimezone(UTC).strftime(STAMP)}.json"
    try:
        newest = {
            folder.name: max((path for path in folder.glob("[0-9]*.json") if path.name <= last), default=None)
            for folder in sorted(directory.iterdir())
            if folder.is_dir()
        }
    except OSError as error:
        raise SnapshotError(
            str(directory), str(error), "a directory of snapshots is needed", "Name the directory given to --save"
        ) from error
    return {host: _read(path) for host, path in newest.items() if path}


def _read(path: Path) -> Facts:
    try:
        raw = json.loads(path.read_bytes())
        found = raw.get("format")
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise SnapshotError(
            str(path),
            str(error),
            "it has to hold the facts of a host",
            "Take the snapshot again, or move this file away",
        ) from error
    if found != FORMAT:
        raise SnapshotError(
            str(path),
            f"it is of format {found}",
            f"this version reads format {FORMAT}",
            "Read it with the version of rackwright that wrote it, or move it away",
        )
    return Facts(raw)
