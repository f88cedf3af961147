"""Places that are in memory only: what is written there is on no disk, and what we write there goes with us."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rackwright.errors import SetupError

PLACES = (Path("/dev/shm"), Path("/run"))
"""Where private data may lie: never on a disk."""
TYPES = {"tmpfs", "ramfs"}
PREFIX = "rackwright-private-"
_in_use: set[Path] = set()


def in_memory(path: Path) -> bool:
    """Return whether what is written to *path* stays in memory; False where that cannot be told."""
    device = path.stat().st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        mount, _, filesystem = line.partition(" - ")  # proc(5): optional fields end with a hyphen
        if mount.split()[2] == wanted:
            return filesystem.split()[0] in TYPES
    return False


@contextmanager
def private() -> Iterator[Path]:
    """Yield a directory that is in memory only and nobody else's, gone afterwards with all that is in it.

    What a process left behind that was killed goes now.
    """
    memory = next((place for place in PLACES if os.access(place, os.W_OK)), None)
    if memory is None:
        got, want = f"got neither {' nor '.join(map(str, PLACES))} to write to", "private data stays in memory"
        raise SetupError("this computer", got, want, "Mount a tmpfs at /dev/shm")
    for left in memory.glob(f"{PREFIX}*"):
        _remove_if_left(left)
    made = Path(tempfile.mkdtemp(dir=memory))
    lock = os.open(made, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(lock, fcntl.LOCK_EX)  # until this process ends; only then does it get the name by which it is found
    directory = made.rename(memory / f"{PREFIX}{made.name}")
    _in_use.add(directory)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        os.close(lock)
        _in_use.discard(directory)


def leave_nothing() -> None:
    """Remove what is in use: this process ends, and waits for nobody."""
    for directory in list(_in_use):
        shutil.rmtree(directory, ignore_errors=True)


def _remove_if_left(directory: Path) -> None:
    """Remove *directory* if it is ours and nobody holds it any more."""
    with suppress(OSError):
        lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            if os.fstat(lock).st_uid == os.geteuid():
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(directory, ignore_errors=True)
        finally:
            os.close(lock)
