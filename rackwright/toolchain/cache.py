"""The per-user cache: what can be fetched or made again, shared by all checkouts.

Nothing half-made is ever seen under its own name, and two processes never make the same thing at once.
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
    """Return the cache's directory: $RACKWRIGHT_CACHE, else rackwright in $XDG_CACHE_HOME, else in ~/.cache."""
    if own := os.environ.get("RACKWRIGHT_CACHE"):
        return Path(own).absolute()
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path.home() / ".cache") / "rackwright"


@contextmanager
def locked(path: Path, progress: Progress) -> Iterator[None]:
    """Hold the lock file *path*, waiting for whoever holds it; the kernel frees it when its holder dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress(f"waiting for another rackwright to finish (lock {path})")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def filling(target: Path) -> Iterator[Path]:
    """Yield an empty directory that takes the place and name of *target* once the block has ended well.

    The caller holds the lock, so that whatever an interrupted run left beside *target* can be removed first.
    """
    for stale in target.parent.glob(f".{target.name}.*"):
        shutil.rmtree(stale)
    half_made = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        yield half_made
        half_made.chmod(0o755)
        half_made.rename(target)
    except BaseException:
        shutil.rmtree(half_made)
        raise
