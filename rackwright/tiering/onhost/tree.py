"""Files and directories below one directory, reached without following a link.

Another account may own the directory, and can put a link into the place of any part of a path at any moment. So each
part of a path is opened by itself, relative to the directory above it, and the kernel refuses a link there. Standard
library only, for Python 3.8 and later.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from typing import IO, TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
MODE = 0o755
"""Mode of a new directory."""
DEPTH_MAX = 128
"""Maximum number of directories above a file. Each is open during a walk."""


class TransferFailed(Exception):
    """A file was not transferred; the message says why, without an address."""


class NotADirectory(TransferFailed):
    """A part of a path is a link, or no directory."""


class DeletedInPart(TransferFailed):
    """The deletion of files ended before the last one; the message says how many were deleted."""


class Entry(NamedTuple):
    """A path below the directory of a walk, and its status."""

    path: str
    status: os.stat_result

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.status.st_mode)

    @property
    def is_link(self) -> bool:
        return stat.S_ISLNK(self.status.st_mode)

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.status.st_mode)


@contextlib.contextmanager
def open_directory(directory: Path, make: bool = False) -> Iterator[int]:
    """Yield a descriptor of the absolute path *directory*; with *make*, missing parts of the path are made.

    Raises:
        NotADirectory: a part of the path is a link, or no directory.
        TransferFailed: the path is none of a file.
    """
    if not directory.is_absolute() or ".." in directory.parts:
        raise TransferFailed(f"{directory} is no absolute path")
    root = os.open("/", DIRECTORY)
    try:
        with _follow(root, directory.parts[1:], make, str(directory)) as descriptor:
            yield descriptor
    finally:
        os.close(root)


@contextlib.contextmanager
def open_below(top: int, path: str, make: bool = False) -> Iterator[int]:
    """Yield a descriptor of the directory at the relative *path*; with *make*, missing parts of the path are made.

    Raises:
        NotADirectory: a part of the path is a link, or no directory.
        TransferFailed: the path is none of a file.
    """
    with _follow(top, _parts(path), make, path) as descriptor:
        yield descriptor


@contextlib.contextmanager
def open_parent(top: int, path: str, make: bool = False) -> Iterator[tuple[int, str]]:
    """Yield a descriptor of the directory that has the relative *path*, and the name in it.

    Raises:
        TransferFailed: a part of the path above the name is a link, or no directory.
    """
    *parents, name = _parts(path)
    with _follow(top, parents, make, path) as descriptor:
        yield descriptor, name


def _parts(path: str) -> list[str]:
    parts = path.split("/")
    if not all(part not in ("", ".", "..") for part in parts):
        raise TransferFailed(f"{path!r} is no path of a file")
    return parts


@contextlib.contextmanager
def _follow(top: int, names: Iterable[str], make: bool, path: str) -> Iterator[int]:
    descriptor = os.dup(top)
    try:
        for name in names:
            descriptor = _step(descriptor, name, make, path)
        yield descriptor
    finally:
        os.close(descriptor)


def _step(descriptor: int, name: str, make: bool, path: str) -> int:
    """Return a descriptor of the directory *name* in that of *descriptor*, which is closed if there is one."""
    if make:
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, MODE, dir_fd=descriptor)
    try:
        below = os.open(name, DIRECTORY, dir_fd=descriptor)
    except OSError:
        with contextlib.suppress(OSError):
            if stat.S_ISLNK(os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_mode):
                raise NotADirectory(f"{path} is behind a link") from None
        raise NotADirectory(f"{path} is no directory") from None
    os.close(descriptor)
    return below


def directories_in(top: int, path: str = "") -> list[str]:
    """Return the paths of the directories in the one at the relative *path*, sorted, without links and hidden ones.

    There are none if *path* is no directory any more.
    """
    try:
        with _follow(top, _parts(path) if path else (), False, path) as descriptor:
            found = _directories(descriptor)
    except NotADirectory:
        return []
    return [f"{path}/{name}" if path else name for name in found]


def _directories(top: int) -> list[str]:
    return [name for name in sorted(os.listdir(top)) if not name.startswith(".") and _is_directory(top, name)]


def _is_directory(top: int, name: str) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=top, follow_symlinks=False).st_mode)
    except FileNotFoundError:  # it was deleted since
        return False


def walk(top: int, path: str = "") -> Iterator[Entry]:
    """Yield what is below *top*, sorted, each directory before its content.

    Raises:
        TransferFailed: there are more than DEPTH_MAX directories in each other.
    """
    if path.count("/") > DEPTH_MAX:
        raise TransferFailed(f"there are more than {DEPTH_MAX} directories in each other")
    for name in sorted(os.listdir(top)):
        try:
            status = os.stat(name, dir_fd=top, follow_symlinks=False)
        except FileNotFoundError:  # it was deleted since
            continue
        entry = Entry(f"{path}{name}", status)
        yield entry
        if entry.is_directory:
            try:
                below = os.open(name, DIRECTORY, dir_fd=top)
            except OSError:  # it is no directory any more
                continue
            try:
                yield from walk(below, f"{entry.path}/")
            finally:
                os.close(below)


def is_text(path: str) -> bool:
    """Return whether the name of *path* is UTF-8: os.fsdecode writes other bytes as halves of pairs of UTF-16."""
    return not any("\ud800" <= character <= "\udfff" for character in path)


def status_of(top: int, path: str) -> os.stat_result:
    """Return the status of the relative *path* itself."""
    with open_parent(top, path) as (parent, name):
        return os.stat(name, dir_fd=parent, follow_symlinks=False)


@contextlib.contextmanager
def open_file(top: int, path: str) -> Iterator[IO[bytes]]:
    """Yield the file at the relative *path*, open for reading.

    Raises:
        TransferFailed: it is no file.
    """
    with open_parent(top, path) as (parent, name):
        # O_NONBLOCK: a FIFO in the place of a file would block
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY, dir_fd=parent)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise TransferFailed(f"{path} is no file")
        yield file


@contextlib.contextmanager
def replace_file(top: int, path: str) -> Iterator[IO[bytes]]:
    """Yield a new file that takes the place of the relative *path* when the block ends without an error."""
    with open_parent(top, path, make=True) as (parent, name):
        beside = f".rackwright-{hashlib.sha256(name.encode(errors='surrogateescape')).hexdigest()[:16]}"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(beside, dir_fd=parent)  # left by a transfer that was killed
        descriptor = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.rename(beside, name, src_dir_fd=parent, dst_dir_fd=parent)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(beside, dir_fd=parent)
            raise
        os.fsync(parent)  # the name as well


def make_directory(top: int, path: str) -> None:
    """Make the directory at the relative *path*, and those above it."""
    with open_below(top, path, make=True):
        pass


def delete_file(top: int, path: str) -> None:
    """Delete the file at the relative *path*."""
    with open_parent(top, path) as (parent, name):
        os.unlink(name, dir_fd=parent)


def remove_empty(directory: Path) -> None:
    """Remove *directory* and those below it, as far as they are empty."""
    with contextlib.suppress(OSError, TransferFailed), open_directory(directory) as top:
        for entry in reversed([each for each in walk(top) if each.is_directory]):
            with contextlib.suppress(OSError, TransferFailed), open_parent(top, entry.path) as (parent, name):
                os.rmdir(name, dir_fd=parent)
    with contextlib.suppress(OSError, TransferFailed), open_directory(directory.parent) as parent:
        os.rmdir(directory.name, dir_fd=parent)
        os.fsync(parent)


def take_over(found: os.stat_result, descriptor: int) -> None:
    """Give the open file or directory the owner, mode and times of *found*."""
    os.fchown(descriptor, found.st_uid, found.st_gid)
    os.fchmod(descriptor, stat.S_IMODE(found.st_mode))
    os.utime(descriptor, ns=(found.st_atime_ns, found.st_mtime_ns))
