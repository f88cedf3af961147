"""The output of a masking: written in a hidden directory, exchanged in one step, and removed by a report's list."""

import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from rackwright.errors import ChangeRefused, Diagnostic
from rackwright.masking.exchange import NoExchange, exchange, take
from workloads.masking_report import BYTES_MAX, FILE, listed_files, sha256_of_file

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
MODE, DIRECTORY_MODE = 0o600, 0o700


class NotListed(Exception):
    """A file or directory is not exactly the output that its report lists."""


class Output:
    """New files of a target in a hidden directory beside it, which the operator's account alone may enter."""

    def __init__(self, parent: int, place: int, target: str, is_directory: bool) -> None:
        """
        Args:
            parent: Descriptor of the directory of the target.
            place: Descriptor of the hidden directory.
        """
        self._parent, self._place, self._target = parent, place, target
        self._is_directory = is_directory
        if is_directory:
            os.mkdir(target, DIRECTORY_MODE, dir_fd=place)
        self._root = os.open(target, _DIRECTORY, dir_fd=place) if is_directory else os.dup(place)
        self._files: list[str] = []

    @property
    def report(self) -> str:
        """Name of the report, as `create` takes it."""
        return FILE if self._is_directory else f"{self._target}.{FILE}"

    @contextmanager
    def create(self, name: str, mode: int = MODE) -> Iterator[BinaryIO]:
        """Yield the new file *name*: the path in the target directory, or the name of the target or its report."""
        with _folder(self._root, name, make=True) as folder:
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(PurePosixPath(name).name, flags, MODE, dir_fd=folder)
        self._files.append(name)
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)

    def sha256(self, name: str) -> str:
        """Return the SHA-256 digest of the file *name*."""
        return _sha256(self._root, name)

    def publish(self) -> None:
        """Put the new files in the place of those of the target, in one step for each name.

        Raises:
            NotListed: The files of the target are not those of their report. They are back in their place.
            OSError: A step failed. The files of the target are as before.
        """
        names = (self._target,) if self._is_directory else (self._target, self.report)
        exchanged: list[str] = []
        taken: list[str] = []
        new, self._files = self._files, []  # while names change places, no list says what lies in the hidden directory
        try:
            for name in names:
                if _exists(name, self._parent):
                    exchange(name, self._place, self._parent)
                    exchanged.append(name)
                else:
                    take(name, self._place, self._parent)
                    taken.append(name)
            if exchanged:
                old = require_listed(self._place, self._target, self._is_directory)
        except BaseException:
            for name in exchanged:
                exchange(name, self._place, self._parent)
            for name in taken:
                take(name, self._parent, self._place)
            self._files = new
            raise
        os.fsync(self._parent)
        if exchanged:
            with suppress(OSError):  # files that appeared meanwhile stay in the hidden directory
                _remove(self._place, self._target, self._is_directory, old)

    def close(self) -> None:
        """Remove the new files that were not published."""
        os.close(self._root)
        if _exists(self._target, self._place) or self._files:
            with suppress(OSError):
                _remove(self._place, self._target, self._is_directory, self._files)


@contextmanager
def new_output(target: Path, is_directory: bool) -> Iterator[Output]:
    """Yield the output that gets the name *target* by its `publish`; it is removed by the list of what it wrote."""
    target.parent.mkdir(parents=True, exist_ok=True)
    parent = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        hidden = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent)).name
        place = os.open(hidden, _DIRECTORY, dir_fd=parent)
        try:
            if (status := os.fstat(place)).st_uid != os.geteuid() or any(os.scandir(place)):
                raise OSError(f"{hidden} is not the new directory")
            output = Output(parent, place, target.name, is_directory)
            try:
                yield output
            finally:
                output.close()
                _remove_place(parent, hidden, status)
        finally:
            os.close(place)
    finally:
        os.close(parent)


def require_free_or_listed(target: Path, is_directory: bool) -> None:
    """Return if *target* is free, or exactly the output that the report in it or beside it lists.

    Raises:
        ChangeRefused: It is something else, and stays.
    """
    report = FILE if is_directory else f"{target.name}.{FILE}"
    if not os.path.lexists(target) and (is_directory or not os.path.lexists(target.with_name(report))):
        return
    where = str(target)
    expected = f"a new name, or exactly the files with the digests that {report} lists"
    help = "Name another target, or move what is there"
    if os.path.lexists(target) and target.is_dir() != is_directory:
        kind = "directory" if target.is_dir() else "file"
        other = "directory" if is_directory else "file"
        raise ChangeRefused(Diagnostic(where, f"it is a {kind}, and the source is a {other}", expected, help))
    parent = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        require_listed(parent, target.name, is_directory)
    except (NotListed, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ChangeRefused(Diagnostic(where, f"it exists already, and {reason}", expected, help)) from None
    finally:
        os.close(parent)


def publish_error(target: Path, error: Exception) -> Diagnostic:
    """Return the diagnostic of *error*, which `Output.publish` raised."""
    if isinstance(error, NoExchange):
        problem = "the file system cannot exchange two names in one step"
        return Diagnostic(str(target), problem, "a target that does not exist yet", "Name another target")
    reason = error.strerror if isinstance(error, OSError) else str(error)
    expected = "the target as it was when the masking began"
    return Diagnostic(str(target), f"it changed, and {reason}", expected, "Name another target")


def require_listed(parent: int, name: str, is_directory: bool) -> list[str]:
    """Return the files of the output *name* in the directory *parent*, with the report.

    Raises:
        NotListed: They are not exactly those that the report lists, with their digests.
        OSError: A file cannot be read.
    """
    root = os.open(name, _DIRECTORY, dir_fd=parent) if is_directory else os.dup(parent)
    try:
        report = FILE if is_directory else f"{name}.{FILE}"
        with _open(root, report) as file:
            listed = listed_files(file.read(BYTES_MAX + 1))
        if listed is None or (not is_directory and listed.keys() != {name}):
            raise NotListed(f"{report} is no report of it")
        if is_directory and _contents(root) != ({*listed, report}, _folders(listed)):
            raise NotListed("it has other files than its report")
        if any(_sha256(root, each) != digest for each, digest in listed.items()):
            raise NotListed("a file is not as its report says")
        return [*listed, report]
    finally:
        os.close(root)


def _contents(root: int) -> tuple[set[str], set[str]]:
    """Return the paths of all files and of all directories in the directory *root*."""
    files, folders = set(), set()
    for path, below, names, _ in os.fwalk(".", dir_fd=root):
        at = PurePosixPath(path)
        files |= {str(at / each) for each in names}
        folders |= {str(at / each) for each in below}
    return files, folders


def _folders(files: Sequence[str] | dict[str, str]) -> set[str]:
    return {str(each) for name in files for each in PurePosixPath(name).parents if str(each) != "."}


def _remove(place: int, name: str, is_directory: bool, files: Sequence[str]) -> None:
    """Remove *files* of the output *name*, and directories that are empty then."""
    root = os.open(name, _DIRECTORY, dir_fd=place) if is_directory else os.dup(place)
    try:
        for each in files:
            with suppress(FileNotFoundError), _folder(root, each) as folder:
                os.unlink(PurePosixPath(each).name, dir_fd=folder)
        for each in sorted(_folders(files), reverse=True):
            with suppress(FileNotFoundError), _folder(root, each) as folder:
                os.rmdir(PurePosixPath(each).name, dir_fd=folder)
    finally:
        os.close(root)
    if is_directory:
        os.rmdir(name, dir_fd=place)


def _remove_place(parent: int, hidden: str, status: os.stat_result) -> None:
    """Remove the directory *hidden* if it is empty and the one of *status*: its name may lead elsewhere by now."""
    with suppress(OSError):
        now = os.stat(hidden, dir_fd=parent, follow_symlinks=False)
        if (now.st_dev, now.st_ino) == (status.st_dev, status.st_ino):
            os.rmdir(hidden, dir_fd=parent)


def _exists(name: str, directory: int) -> bool:
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


@contextmanager
def _folder(root: int, name: str, make: bool = False) -> Iterator[int]:
    """Yield the descriptor of the directory of the path *name* below *root*, through no link."""
    descriptor = os.dup(root)
    try:
        for part in PurePosixPath(name).parent.parts:
            if make:
                with suppress(FileExistsError):
                    os.mkdir(part, DIRECTORY_MODE, dir_fd=descriptor)
            below = os.open(part, _DIRECTORY, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = below
        yield descriptor
    finally:
        os.close(descriptor)


def _open(root: int, name: str) -> BinaryIO:
    """Return the regular file at the path *name* below *root*, opened for reading."""
    with _folder(root, name) as folder:
        descriptor = os.open(PurePosixPath(name).name, _FILE, dir_fd=folder)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotListed("a part of it is no regular file")
    return os.fdopen(descriptor, "rb")


def _sha256(root: int, name: str) -> str:
    with _open(root, name) as file:
        return sha256_of_file(file)
