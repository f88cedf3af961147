"""The per-user cache of downloads and builds, which all checkouts share.

An incomplete entry never has its final name, and two processes never make the same entry at once.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rackwright.progress import Progress


def directory() -> Path:
    """Return the directory of the cache: $RACKWRIGHT_CACHE, else rackwright in $XDG_CACHE_HOME, else in ~/.cache."""
    if path := os.environ.get("RACKWRIGHT_CACHE"):
        return Path(path).absolute()
    parent = os.environ.get("XDG_CACHE_HOME")
    return (Path(parent) if parent else Path.home() / ".cache") / "rackwright"


@contextmanager
def hold_lock(path: Path, progress: Progress) -> Iterator[None]:
    """Wait for the lock file *path* and hold it; the kernel releases it when the process of the holder ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress(f"waiting for another rackwright to finish (lock {path})")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def replace_directory(target: Path) -> Iterator[Path]:
    """Yield an empty directory, and rename it to *target* after the block ends without an error.

    The caller must hold the lock: the function first removes the incomplete directories of interrupted runs.
    """
    for stale in target.parent.glob(f".{target.name}.*"):
        shutil.rmtree(stale)
    incomplete = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        yield incomplete
        incomplete.chmod(0o755)
        incomplete.rename(target)
    except BaseException:
        shutil.rmtree(incomplete)
        raise
