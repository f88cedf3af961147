"""Files of checkpoints: digests, new files in pieces, and a limit of the rate."""

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from workloads.foreign import open_regular, regular_descriptor

PAGE = 4096
CHUNK = 4 << 20
"""Bytes to write and hash at a time; a multiple of PAGE."""


def sha256(path: Path, *, from_drive: bool = False) -> str:
    """Return the hexadecimal digest of the file *path*.

    Args:
        from_drive: Whether to drop its cached pages before and after (posix_fadvise, POSIX_FADV_DONTNEED), so that the
            drive itself is read. Dirty pages stay cached, so the file must have been fsynced before.
    """
    with os.fdopen(regular_descriptor(path, follow=True), "rb", buffering=0) as file:
        if not from_drive:
            return hashlib.file_digest(file, "sha256").hexdigest()
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return digest


def read(path: Path, most: int) -> bytes:
    """Return the first *most* bytes of the regular file *path*, without following a link or waiting for a pipe.

    Raises:
        OSError: The file cannot be read, or is not a regular file.
    """
    with open_regular(path) as file:
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
    """Copy the rest of *source* to the new file *target* and return its sha256; None writes no file."""
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
    """Write the first *size* bytes of *memory* to a new file, and return its sha256.

    The write bypasses the page cache (O_DIRECT) if the filesystem supports it: this saves one copy, and the training
    data stay cached.

    Args:
        memory: Whole pages, aligned to a page.
        pause: Function to call after each chunk with its number of bytes.
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
        path.unlink(missing_ok=True)  # some filesystems create the file before the open fails
        return os.open(path, flags, 0o644)


def _write_all(descriptor: int, chunk: memoryview) -> None:
    while chunk:
        chunk = chunk[os.write(descriptor, chunk) :]


def rate_limiter(bytes_per_second: float | None) -> Callable[[int], None]:
    """Return a function that takes byte counts and sleeps to keep their rate within the limit; None for no limit."""
    if not bytes_per_second:
        return lambda count: None
    start, total = time.monotonic(), 0

    def pause(count: int) -> None:
        nonlocal total
        total += count
        time.sleep(max(0.0, start + total / bytes_per_second - time.monotonic()))

    return pause
