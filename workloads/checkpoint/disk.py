"""Files that are whole and on the drive, or not there: written beside, fsynced, renamed."""

import errno
import hashlib
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

PAGE = 4096
CHUNK = 4 << 20
"""Bytes that are written and hashed at a time; a multiple of PAGE."""


def sha256(path: Path, *, from_drive: bool = False) -> str:
    """Return the hexadecimal digest of the file *path*.

    Args:
        from_drive: Whether to let go of its cached pages first (posix_fadvise, POSIX_FADV_DONTNEED), so that the drive
            is asked, and again afterwards. Pages that are not written back stay: the file was fsynced before.
    """
    with path.open("rb", buffering=0) as file:
        if not from_drive:
            return hashlib.file_digest(file, "sha256").hexdigest()
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return digest


def read(path: Path, most: int) -> bytes:
    """Return the first *most* bytes of the regular file *path*; a link, pipe or device is never opened.

    Raises:
        OSError: it cannot be read, or is no regular file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", str(path))
        return file.read(most)


def write(path: Path, content: bytes) -> str:
    """Write a new file and return its sha256."""
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return hashlib.sha256(content).hexdigest()


class Readable(Protocol):
    def read(self, most: int, /) -> bytes: ...


def copy(source: Readable, target: Path | None) -> str:
    """Write the rest of *source* to the new file *target*, or nowhere where it is None, and return its sha256."""
    digest = hashlib.sha256()
    with (target or Path(os.devnull)).open("xb" if target else "wb") as file:
        while chunk := source.read(CHUNK):
            digest.update(chunk)
            file.write(chunk)
        if target:
            file.flush()
            os.fsync(file.fileno())
    return digest.hexdigest()


def write_pages(path: Path, memory: memoryview, size: int, pause: Callable[[int], None]) -> str:
    """Write a new file of the first *size* bytes of *memory*, and return its sha256.

    Past the page cache (O_DIRECT) where the filesystem can: one copy less, and what training reads stays cached.

    Args:
        memory: Begins at a page, and has whole pages.
        pause: Called after each chunk with its bytes.
    """
    digest = hashlib.sha256()
    descriptor = _create(path)
    try:
        for start in range(0, size, CHUNK):
            end = min(start + CHUNK, size)
            digest.update(memory[start:end])
            _write_all(descriptor, memory[start : -(-end // PAGE) * PAGE])
            pause(end - start)
        os.ftruncate(descriptor, size)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return digest.hexdigest()


def _create(path: Path) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        return os.open(path, flags | os.O_DIRECT, 0o644)
    except OSError as error:
        if isinstance(error, FileExistsError | FileNotFoundError | PermissionError):
            raise
        path.unlink(missing_ok=True)  # some filesystems make the file before they find that they cannot
        return os.open(path, flags, 0o644)


def _write_all(descriptor: int, chunk: memoryview) -> None:
    while chunk:
        chunk = chunk[os.write(descriptor, chunk) :]


def fsync_directory(path: Path) -> None:
    """Return when the names in *path* are on the drive."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def limiter(bytes_per_second: float | None) -> Callable[[int], None]:
    """Return a function that, told of bytes as they go by, sleeps so that there are no more of them."""
    if not bytes_per_second:
        return lambda count: None
    began, passed = time.monotonic(), 0

    def pause(count: int) -> None:
        nonlocal passed
        passed += count
        time.sleep(max(0.0, began + passed / bytes_per_second - time.monotonic()))

    return pause
