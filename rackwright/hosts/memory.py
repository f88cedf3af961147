"""Private directories that exist in memory only and are removed when the process ends."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rackwright.errors import Diagnostic, SetupError

PLACES = (Path("/dev/shm"), Path("/run"))
"""Mount points for private data, never on a disk."""
TYPES = {"tmpfs", "ramfs"}
PREFIX = "rackwright-private-"
_in_use: set[Path] = set()


def in_memory(path: Path) -> bool:
    """Return whether files under *path* stay in memory; False where that is unknown."""
    device = path.stat().st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        mount, _, filesystem = line.partition(" - ")  # proc(5): optional fields end with a hyphen
        if mount.split()[2] == wanted:
            return filesystem.split()[0] in TYPES
    return False


@contextmanager
def private() -> Iterator[Path]:
    """Yield a directory in memory that only this process uses, and remove it afterwards with its content.

    The call first removes the directories of processes that were killed.
    """
    memory = next((place for place in PLACES if os.access(place, os.W_OK)), None)
    if memory is None:
        problem = f"neither {' nor '.join(map(str, PLACES))} is writable"
        note = "private data is written to memory alone"
        raise SetupError(Diagnostic("this computer", problem, help="Mount a tmpfs at /dev/shm", note=note))
    for left in memory.glob(f"{PREFIX}*"):
        _remove_if_left(left)
    made = Path(tempfile.mkdtemp(dir=memory))
    lock = os.open(made, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(lock, fcntl.LOCK_EX)  # until this process ends; the clean-up finds only names that follow the lock
    directory = made.rename(memory / f"{PREFIX}{made.name}")
    _in_use.add(directory)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        os.close(lock)
        _in_use.discard(directory)


def leave_nothing() -> None:
    """Remove all directories in use at once, because this process ends."""
    for directory in list(_in_use):
        shutil.rmtree(directory, ignore_errors=True)


def _remove_if_left(directory: Path) -> None:
    """Remove *directory* if this user owns it and no process holds it."""
    with suppress(OSError):
        lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            if os.fstat(lock).st_uid == os.geteuid():
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(directory, ignore_errors=True)
        finally:
            os.close(lock)
