"""Folders that others may write to: each part of a path below a trusted directory is opened without following links."""

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from workloads.foreign import InvalidData, read_bounded

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class SharedPath:
    """A file or folder below *top*, reached by *names*, of which none may be a link."""

    top: Path
    """Directory that the user names."""
    names: tuple[str, ...] = ()

    def __truediv__(self, name: str) -> "SharedPath":
        return SharedPath(self.top, (*self.names, name))

    def __str__(self) -> str:
        return str(self.top.joinpath(*self.names))

    def exists(self) -> bool:
        """Return whether there is such a file or folder; one that is a link, or is reached by a link, is none.

        Raises:
            OSError: A folder cannot be read.
        """
        try:
            with self._parent() as parent:
                return not stat.S_ISLNK(os.stat(self.names[-1], dir_fd=parent, follow_symlinks=False).st_mode)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                return False
            raise

    def read(self, limit: int) -> bytes:
        """Return the content of a regular file.

        Raises:
            InvalidData: The file is longer than *limit*.
            OSError: It cannot be read, is no regular file, or is reached by a link.
        """
        with self._parent() as parent, os.fdopen(os.open(self.names[-1], _READ, dir_fd=parent), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise OSError(errno.EINVAL, "it is no regular file", str(self))
            return read_bounded(file, limit)

    def write(self, content: bytes) -> None:
        """Replace the file by one with *content*; missing folders are made. A link in its place is replaced, too.

        This account alone reads new folders and the files in them. A file in a folder that others made, or that this
        account has opened to them, may be read by those who may read the folder.

        Raises:
            OSError: It cannot be written, or a folder above it is a link.
        """
        with self._parent(make=True) as parent:
            temporary = f".{self.names[-1]}.{secrets.token_hex(8)}"
            try:
                mode = 0o600 | os.fstat(parent).st_mode & 0o044
                with os.fdopen(os.open(temporary, _NEW, mode, dir_fd=parent), "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(temporary, self.names[-1], src_dir_fd=parent, dst_dir_fd=parent)
            except BaseException:
                with suppress(FileNotFoundError):
                    os.unlink(temporary, dir_fd=parent)
                raise
            os.fsync(parent)

    def restore(self, content: bytes) -> bool:
        """Write the file unless it has *content*; return whether another file, folder or link was in its place.

        Raises:
            OSError: It cannot be written.
        """
        with suppress(OSError, InvalidData):
            if self.read(len(content)) == content:
                return False
        other = self.is_taken()
        self.write(content)
        return other

    def is_taken(self) -> bool:
        """Return whether the folder has a file, folder or link with this name.

        Raises:
            OSError: A folder above it is a link, or cannot be read.
        """
        try:
            with self._parent() as parent:
                os.stat(self.names[-1], dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def remove(self) -> bool:
        """Remove the file or link; return whether there was one.

        Raises:
            OSError: It cannot be removed, or is a folder.
        """
        try:
            with self._parent() as parent:
                os.unlink(self.names[-1], dir_fd=parent)
        except FileNotFoundError:
            return False
        return True

    @contextmanager
    def _parent(self, make: bool = False) -> Iterator[int]:
        """Yield a descriptor of the folder with the last name."""
        if make:
            self.top.mkdir(0o700, parents=True, exist_ok=True)
        descriptor = os.open(self.top, _DIRECTORY)
        try:
            for name in self.names[:-1]:
                if make:
                    with suppress(FileExistsError):
                        os.mkdir(name, 0o700, dir_fd=descriptor)
                child = os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = child
            yield descriptor
        finally:
            os.close(descriptor)
