"""Directories for temporary files. The next process removes those of processes that were killed."""

import atexit
import fcntl
import os
import shutil
import stat
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path

_BEGUN, _LOCKED = "new-", "scratch-"
"""Beginnings of the names of a directory before it is locked, and afterwards."""
_NO_LINK = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PRIVATE, _PASSABLE = 0o700, 0o711
_in_use: dict[Path, int] = {}
"""The descriptor of each directory in use."""
_change = threading.RLock()
"""Held while `_in_use` changes: a descriptor of another directory could otherwise get the number of a closed one."""
_of_process = ExitStack()
"""Keeps the directory of the process."""


class NotOwn(OSError):
    """A directory with the name of this account's own, which other accounts made or may enter."""


def own_directory(place: Path, passable: bool = False) -> Path:
    """Return the directory in *place* whose content this account alone can make, and make it if it is missing.

    A name in a directory that others write to proves nothing: they can move a directory of this account there. One to
    which they cannot write stays where it is, as the kernel has it, and so does all in it.

    Args:
        place: A directory such as /tmp.
        passable: Whether other accounts may open names in it that they know, for programs in a user namespace.

    Raises:
        NotOwn: The name is that of a link, of another account's directory, or of one with other rights.
    """
    own = place / f"rackwright-{os.geteuid()}{'-images' if passable else ''}"
    with suppress(FileExistsError):
        own.mkdir(mode=_PRIVATE)
    try:
        descriptor = os.open(own, _NO_LINK)
    except OSError as error:
        raise NotOwn(f"{own} is no directory of this account ({error.strerror})") from None
    try:
        found = os.fstat(descriptor)
        others = found.st_mode & (0o022 if passable else 0o077)
        if found.st_uid != os.geteuid() or others:
            raise NotOwn(f"{own} belongs to user {found.st_uid} with mode {stat.S_IMODE(found.st_mode):04o}")
        if passable:
            os.fchmod(descriptor, _PASSABLE)
    finally:
        os.close(descriptor)
    return own


@contextmanager
def directory(place: Path | None = None, passable: bool = False) -> Iterator[Path]:
    """Yield a directory that only this account can read, and remove it afterwards with its content.

    The call first removes the directories of processes that were killed. If another account took the name of their
    parent, the new directory has an unforeseeable name in *place*, and none is removed.

    Args:
        place: Directory in which it is made; None for $TMPDIR, else /tmp.
        passable: Whether other accounts may read names in it that they know, for programs in a user namespace.
    """
    place = place or Path(tempfile.gettempdir())
    try:
        parent = own_directory(place, passable)
    except NotOwn:
        parent = place
    else:
        _remove_left(parent)
    made = Path(tempfile.mkdtemp(prefix=_BEGUN, dir=parent))
    lock = os.open(made, _NO_LINK)
    fcntl.flock(lock, fcntl.LOCK_EX)  # until this process ends; the clean-up finds only names that follow the lock
    if passable:
        os.fchmod(lock, _PASSABLE)
    named = made if parent == place else made.rename(parent / f"{_LOCKED}{made.name.removeprefix(_BEGUN)}")
    with _change:
        _in_use[named] = lock
    try:
        yield named
    finally:
        with _change:
            _remove(named, _in_use.pop(named))
            os.close(lock)


@cache
def of_process() -> Path:
    """Return a directory that stays until the end of this process."""
    atexit.register(_of_process.close)
    return _of_process.enter_context(directory())


def leave_nothing() -> None:
    """Remove all directories in use at once, because this process ends."""
    with _change:
        for path, descriptor in _in_use.items():
            _remove(path, descriptor)


def _remove_left(parent: Path) -> None:
    """Remove the directories in *parent*, of this account alone, that no process holds."""
    for left in parent.glob(f"{_LOCKED}*"):
        with suppress(OSError):
            lock = os.open(left, _NO_LINK)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(left, lock)
            finally:
                os.close(lock)


def _remove(path: Path, descriptor: int) -> None:
    """Remove the directory open as *descriptor* by its content, and *path* if that is empty, whatever is there now."""
    shutil.rmtree(".", ignore_errors=True, dir_fd=descriptor)  # all but itself, as the kernel removes no "."
    with suppress(OSError):
        path.rmdir()
