"""Private directories that exist in memory only and are removed when the process ends."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rackwright import scratch
from rackwright.errors import Diagnostic, SetupError

PLACES = (Path("/dev/shm"), Path("/run"))
"""Mount points for private data, never on a disk."""
TYPES = {"tmpfs", "ramfs"}


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
    with scratch.directory(memory) as directory:
        yield directory
