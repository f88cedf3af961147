"""Write a file of random content, read it back from the drive, and print the seconds of both.

Standard library only, for Python 3.8 and later.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from rackwright.tiering.onhost.transfer import BLOCK_BYTES, emit
from rackwright.tiering.onhost.tree import TransferFailed, open_directory

BLOCKS = 64
"""Different blocks of content: drives and filesystems may store equal blocks once."""


def measure_speed(job: dict[str, Any]) -> None:
    """Write ``bytes`` bytes to the file ``path``, which stays, and read them from the drive.

    Raises:
        TransferFailed: the filesystem has no room for twice the size of the file.
        OSError: the file exists.
    """
    directory, size = Path(job["directory"]), job["bytes"]
    with open_directory(directory.parent) as above:
        usage = os.statvfs(above)
    if usage.f_bavail * usage.f_frsize < 2 * size:
        raise TransferFailed(f"{directory.parent} has no room for twice {size} bytes")
    with open_directory(directory, make=True) as top:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        descriptor = os.open(job["path"], flags, 0o600, dir_fd=top)
    content = [os.urandom(BLOCK_BYTES) for _ in range(BLOCKS)]
    with os.fdopen(descriptor, "r+b", buffering=0) as file:
        began = time.monotonic()
        written = 0
        while written < size:
            block = content[written // BLOCK_BYTES % BLOCKS]
            written += file.write(block[: size - written])
        os.fsync(file.fileno())
        ended = time.monotonic()
        # pages that are written can be dropped: the reads below come from the drive
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
        file.seek(0)
        buffer = bytearray(BLOCK_BYTES)
        began_reading = time.monotonic()
        while file.readinto(buffer):
            pass
        emit(write_seconds=ended - began, read_seconds=time.monotonic() - began_reading, done=True)
