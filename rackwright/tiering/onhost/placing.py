"""List the directories that placement is about, and move a directory from one tier of this host to another.

Standard library only, for Python 3.8 and later.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from typing import Any

from rackwright.tiering.onhost.transfer import (
    OPERATIONS,
    Limiter,
    TransferFailed,
    blocks,
    emit,
    make_directory,
    measure,
    remove_empty,
    require_directory,
    write_through,
)
from rackwright.tiering.onhost.transfer import delete as delete_files
from rackwright.tiering.onhost.transfer import main as run

PATHS_MAX = 1_000_000
"""Maximum number of paths below a tier that are read."""
LINKS = ("cwd", "root", "exe")
"""Links of a process in /proc to what it uses, besides its open files."""


def main(job: dict[str, Any]) -> None:
    OPERATIONS.update({"list": list_directories, "relocate": relocate, "delete": delete})
    run(job)


def list_directories(job: dict[str, Any]) -> None:
    """Print the usage of the tier, and each directory that the pattern is about."""
    mount = require_directory(Path(job["directory"]))
    usage = os.statvfs(mount)
    used = (usage.f_blocks - usage.f_bfree) * usage.f_frsize
    # what root alone may use is of no use to others, as df counts it
    emit(usage={"used": used, "total": used + usage.f_bavail * usage.f_frsize})
    in_use = paths_in_use()
    parents = [mount]
    for part in job["pattern"].split("/"):
        parents = [child for parent in parents for child in _children(parent) if part in ("*", child.name)]
    for parent in parents:
        for place in _children(parent):
            emit(item=_measure(mount, place, in_use))
    emit(done=True)


def relocate(job: dict[str, Any]) -> None:
    """Copy each file with owner, mode and time, read every copy back, and delete the source.

    Raises:
        TransferFailed: the source changed or is in use, or the target holds something else. The source is whole then.
    """
    source, target = require_directory(Path(job["directory"])), Path(job["target"])
    refuse_if_used(source)
    limiter = Limiter(job["bytes_per_second"])
    if job["mount"] and not os.path.ismount(job["mount"]):
        raise TransferFailed(f"{job['mount']} is not mounted")
    make_directory(target.parent)
    files = []
    for place in [source, *sorted(source.rglob("*"))]:
        found, copy = place.lstat(), target / place.relative_to(source)
        if stat.S_ISDIR(found.st_mode):
            copy.mkdir(exist_ok=True)
            require_directory(copy)
        elif stat.S_ISREG(found.st_mode):
            files.append((place, copy, _copy_file(place, copy, limiter), found))
        else:
            raise TransferFailed(f"{place} is neither a file nor a directory")
    for place, copy, digest, _ in files:
        if _digest(copy) != digest:
            raise TransferFailed(f"the copy of {place} was read back with another content")
    for place in [source, *source.rglob("*")]:  # after the files, whose creation changes the times
        if place.is_dir():
            _take_over(place.lstat(), target / place.relative_to(source))
    os.sync()
    for place, _, _, found in files:
        now = place.lstat()
        if (now.st_size, now.st_mtime_ns) != (found.st_size, found.st_mtime_ns):
            raise TransferFailed(f"{place} changed during the move")
    refuse_if_used(source)
    for place, _, _, _ in files:
        place.unlink()
    remove_empty(source)
    emit(done=True)


def delete(job: dict[str, Any]) -> None:
    """Delete the files like `transfer`, unless a process uses the directory."""
    refuse_if_used(Path(job["directory"]))
    delete_files(job)


def refuse_if_used(directory: Path) -> None:
    """Return if no process uses a file below *directory*.

    Raises:
        TransferFailed: one does.
    """
    if _is_used(directory, paths_in_use()):
        raise TransferFailed(f"a process uses {directory}")


def paths_in_use() -> set[str]:
    """Return the paths of all files and directories that processes have open, mapped or as their own."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        if process.name == str(os.getpid()):
            continue
        with contextlib.suppress(OSError):  # it has ended
            links = [process / name for name in LINKS] + list((process / "fd").iterdir())
            for link in links:
                with contextlib.suppress(OSError):
                    found.add(os.readlink(str(link)))  # noqa: PTH115 -- Path.readlink came with Python 3.9
            with (process / "maps").open(errors="replace") as maps:
                found |= {line.split(None, 5)[5].rstrip("\n") for line in maps if line.count("/")}
    return found


def _is_used(directory: Path, in_use: set[str]) -> bool:
    below = f"{directory}/"
    return any(path == str(directory) or path.startswith(below) for path in in_use)


def _children(directory: Path) -> list[Path]:
    """Return the directories in *directory*, without links and hidden ones."""
    with contextlib.suppress(NotADirectoryError, FileNotFoundError):
        found = [each for each in directory.iterdir() if not each.name.startswith(".")]
        return sorted(each for each in found if stat.S_ISDIR(each.lstat().st_mode))
    return []


def _measure(mount: Path, place: Path, in_use: set[str]) -> dict[str, Any]:
    size = files = 0
    newest = place.lstat().st_mtime
    for number, each in enumerate(place.rglob("*")):
        if number >= PATHS_MAX:
            raise TransferFailed(f"{place} has more than {PATHS_MAX} paths")
        with contextlib.suppress(FileNotFoundError):
            found = each.lstat()
            newest = max(newest, found.st_mtime)
            if stat.S_ISREG(found.st_mode):
                files, size = files + 1, size + found.st_size
    path = place.relative_to(mount).as_posix()
    return {"path": path, "bytes": size, "files": files, "newest": newest, "in_use": _is_used(place, in_use)}


def _copy_file(place: Path, copy: Path, limiter: Limiter) -> str:
    """Copy one file if it is not there yet, and return its digest.

    Raises:
        TransferFailed: the target has another file of that name.
    """
    before = place.lstat()
    if copy.is_symlink() or copy.exists():
        digest = _digest(place)
        if copy.is_symlink() or _digest(copy) != digest:
            raise TransferFailed(f"{copy} exists with another content")
        return digest
    beside = copy.with_name(f".rackwright-{copy.name}")
    with contextlib.suppress(FileNotFoundError):
        beside.unlink()  # left by a move that was killed
    source = os.open(str(place), os.O_RDONLY | os.O_NOFOLLOW)
    target = os.open(str(beside), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(source, "rb") as reading, os.fdopen(target, "wb") as writing:
        found = measure(write_through(blocks(reading, limiter), writing))
        writing.flush()
        os.fsync(writing.fileno())
        os.posix_fadvise(writing.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)  # so that the drive is read back
    _take_over(before, beside)
    beside.rename(copy)
    emit(bytes=found["bytes"])
    return str(found["sha256"])


def _digest(place: Path) -> str:
    with place.open("rb") as file:
        return str(measure(blocks(file, Limiter(None)))["sha256"])


def _take_over(found: os.stat_result, copy: Path) -> None:
    os.chown(str(copy), found.st_uid, found.st_gid)
    copy.chmod(stat.S_IMODE(found.st_mode))
    os.utime(str(copy), ns=(found.st_atime_ns, found.st_mtime_ns))
