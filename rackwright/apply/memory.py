"""Places that are in memory only: what is written there is on no disk."""

import os
from pathlib import Path

TYPES = {"tmpfs", "ramfs"}


def in_memory(path: Path) -> bool:
    """Return whether what is written to *path* stays in memory; False where that cannot be told."""
    device = path.stat().st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        mount, _, filesystem = line.partition(" - ")  # proc(5): optional fields end with a hyphen
        if mount.split()[2] == wanted:
            return filesystem.split()[0] in TYPES
    return False
