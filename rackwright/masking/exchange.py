"""Renames in one step that replace nothing: two names change places, or a name that must be free is taken."""

import ctypes
import errno
import os
import stat

NOREPLACE, EXCHANGE = 1, 2
"""Flags of renameat2. Source: Linux, include/uapi/linux/fs.h."""
_UNSUPPORTED = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)


class NoExchange(OSError):
    """The file system cannot make two names change places."""


def exchange(name: str, directory: int, other: int) -> None:
    """Make *name* in *directory* and *name* in *other*, two descriptors, change places in one step.

    Raises:
        NoExchange: The file system has no such step.
        OSError: One of the two is missing, or a directory may not be changed.
    """
    try:
        _rename(name, directory, other, EXCHANGE)
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            raise NoExchange(error.errno, os.strerror(error.errno), name) from None
        raise


def take(name: str, directory: int, other: int) -> None:
    """Move *name* from *directory* to *other*, where the name is free.

    Raises:
        OSError: The name is taken, or a directory may not be changed.
    """
    try:
        _rename(name, directory, other, NOREPLACE)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        if stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
            os.rename(name, name, src_dir_fd=directory, dst_dir_fd=other)  # it replaces an empty directory at most
        else:
            os.link(name, name, src_dir_fd=directory, dst_dir_fd=other, follow_symlinks=False)
            os.unlink(name, dir_fd=directory)


def _rename(name: str, directory: int, other: int, flags: int) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if not hasattr(library, "renameat2"):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), name)
    path = os.fsencode(name)
    if library.renameat2(directory, path, other, path, flags):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), name)
