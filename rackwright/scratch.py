"""Directories for temporary files. The next process removes those of processes that were killed."""

import atexit
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path

PREFIX = "rackwright-scratch-"
_in_use: set[Path] = set()
_of_process = ExitStack()
"""Keeps the directory of the process."""


@contextmanager
def directory(place: Path | None = None, prefix: str = PREFIX) -> Iterator[Path]:
    """Yield a directory that only this account can read, and remove it afterwards with its content.

    The call first removes the directories of processes that were killed.

    Args:
        place: Directory in which it is made; None for $TMPDIR, else /tmp.
        prefix: Beginning of its name.
    """
    place = place or Path(tempfile.gettempdir())
    for left in place.glob(f"{prefix}*"):
        _remove_if_left(left)
    made = Path(tempfile.mkdtemp(dir=place))
    lock = os.open(made, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(lock, fcntl.LOCK_EX)  # until this process ends; the clean-up finds only names that follow the lock
    named = made.rename(place / f"{prefix}{made.name}")
    _in_use.add(named)
    try:
        yield named
    finally:
        shutil.rmtree(named, ignore_errors=True)
        os.close(lock)
        _in_use.discard(named)


@cache
def of_process() -> Path:
    """Return a directory that stays until the end of this process."""
    atexit.register(_of_process.close)
    return _of_process.enter_context(directory())


def leave_nothing() -> None:
    """Remove all directories in use at once, because this process ends."""
    for each in list(_in_use):
        shutil.rmtree(each, ignore_errors=True)


def _remove_if_left(left: Path) -> None:
    """Remove the directory *left* if this user owns it and no process holds it."""
    with suppress(OSError):
        lock = os.open(left, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            if os.fstat(lock).st_uid == os.geteuid():
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left, ignore_errors=True)
        finally:
            os.close(lock)
