"""Files of others, opened so that no link, device or FIFO in the place of a file is followed or waited for."""

import io
import os
import stat
from pathlib import Path

from rackwright.foreign import InvalidData

_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


def open_regular(path: Path) -> io.FileIO:
    """Return the regular file *path*; its last part is no symbolic link.

    Raises:
        InvalidData: It is a link, a device, a FIFO, a socket or a directory.
        OSError: It cannot be read.
    """
    return _open(path.name, path, None)


def open_below(directory: Path | int, name: str) -> io.FileIO:
    """Return the regular file *name* below *directory*; no part of *name* is a symbolic link or `..`.

    Args:
        directory: The directory, or a descriptor of it, which stays open.

    Raises:
        InvalidData: A part of the name is a link, or the file is no regular file.
        OSError: It cannot be read.
    """
    *folders, last = name.split("/")
    if isinstance(directory, int):
        descriptor = os.dup(directory)
    else:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for folder in folders:
            if folder in ("", ".", ".."):
                raise InvalidData(f"{name} has a part {folder!r}")
            below = _descriptor(folder, name, descriptor, os.O_DIRECTORY)
            os.close(descriptor)
            descriptor = below
        return _open(name, last, descriptor)
    finally:
        os.close(descriptor)


def _open(name: str, path: "Path | str", directory: int | None) -> io.FileIO:
    descriptor = _descriptor(path, name, directory)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InvalidData(f"{name} is no regular file")
    return io.FileIO(descriptor)


def _descriptor(path: "Path | str", name: str, directory: int | None, more: int = 0) -> int:
    try:
        return os.open(path, _FLAGS | more, dir_fd=directory)
    except OSError:
        try:
            mode = os.lstat(path, dir_fd=directory).st_mode
        except OSError:
            mode = stat.S_IFREG
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # a link, or a socket, which no program can open
            raise InvalidData(f"{name} is a link or another special file") from None
        raise
