"""Atomic writes: a reader sees the old content of a file or the new one, and never a part."""

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from workloads.errors import Diagnostic, UserError
from workloads.foreign import open_regular


@contextmanager
def replacing(path: Path, mode: int | None = None, group: int = -1) -> Iterator[BinaryIO]:
    """Yield a new file that replaces *path* at the end of the block, when it is on the drive; on failure it is removed.

    Missing directories above *path* are created.

    Args:
        mode: Mode of the file, whatever the umask is; by default that of the present file, or 0644.
        group: Group ID of the file; -1 for the group of this process.
    """
    if mode is None:
        mode = path.stat().st_mode & 0o7777 if path.exists() else 0o644
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fchown(descriptor, -1, group)
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    fsync_directory(path.parent)


def write_atomic(path: Path, content: str | bytes, mode: int | None = None, group: int = -1) -> None:
    """Replace the content of *path*, or create it; see `replacing`."""
    with replacing(path, mode, group) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def copy_atomic(source: Path, target: Path) -> None:
    """Copy the content of *source* to *target*."""
    with open_regular(source, follow=True) as content, replacing(target) as file:
        shutil.copyfileobj(content, file)


def linked_elsewhere(directory: Path, files: Iterable[Path]) -> list[Path]:
    """Return those of *files*, which are in *directory*, whose content is elsewhere by a link.

    Others who write the directory would choose what is read there. The cache of Hugging Face has its files in a
    directory of its own, ``blobs``, beside that of the snapshots.
    """
    own = directory.resolve()
    homes = (own, own.parent.parent / "blobs") if own.parent.name == "snapshots" else (own,)
    return [file for file in files if not any(file.resolve().is_relative_to(home) for home in homes)]


def refuse_links(directory: Path, files: Iterable[Path]) -> None:
    """Raise if a file of the model in *directory* is a link to a file of another directory.

    Raises:
        UserError: Names all of them.
    """
    expected, help = "files in the directory of the model", "Copy the file there if it belongs to the model"
    if wrong := linked_elsewhere(directory, files):
        raise UserError(*(Diagnostic(str(each), f"it is a link to {each.resolve()}", expected, help) for each in wrong))


def fsync_directory(path: Path) -> None:
    """Wait until the file names in *path* are on the drive."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
