"""List the directories that placement is about, and move a directory from one tier of this host to another.

Standard library only, for Python 3.8 and later.
"""

from __future__ import annotations

import contextlib
import os
import stat
from itertools import islice
from pathlib import Path
from typing import Any

from rackwright.tiering.onhost.speed import measure_speed
from rackwright.tiering.onhost.transfer import OPERATIONS, Limiter, blocks, delete_all, emit, measure, write_through
from rackwright.tiering.onhost.transfer import delete as delete_files
from rackwright.tiering.onhost.transfer import main as run
from rackwright.tiering.onhost.tree import (
    Entry,
    NotADirectory,
    TransferFailed,
    directories_in,
    make_directory,
    open_below,
    open_directory,
    open_file,
    remove_empty,
    replace_file,
    status_of,
    take_over,
    walk,
)

PATHS_MAX = 1_000_000
"""Maximum number of paths below a directory."""
LINKS = ("cwd", "root", "exe")
"""Links of a process in /proc to what it uses, besides its open files."""


def main(job: dict[str, Any]) -> None:
    more = {"list": list_directories, "relocate": relocate, "delete": delete, "measure": measure_speed}
    OPERATIONS.update(more)
    run(job)


def list_directories(job: dict[str, Any]) -> None:
    """Print the usage of the tier, and each directory that the pattern is about."""
    mount = Path(job["directory"])
    in_use = paths_in_use()
    with open_directory(mount) as top:
        usage = os.statvfs(top)
        used = (usage.f_blocks - usage.f_bfree) * usage.f_frsize
        # what root alone may use is of no use to others, as df counts it
        emit(usage={"used": used, "total": used + usage.f_bavail * usage.f_frsize})
        parents = [""]
        for part in job["pattern"].split("/"):
            below = [child for parent in parents for child in directories_in(top, parent)]
            parents = [child for child in below if part in ("*", child.rpartition("/")[2])]
        for path in [child for parent in parents for child in directories_in(top, parent)]:
            with contextlib.suppress(NotADirectory), open_below(top, path) as directory:
                emit(item={"path": path, **_measure(directory, path), "in_use": _is_used(mount / path, in_use)})
    emit(done=True)


def relocate(job: dict[str, Any]) -> None:
    """Copy each file with owner, mode and time, read every copy back, and delete the source.

    Raises:
        TransferFailed: the source changed or is in use, or the target holds something else. The source is whole then.
    """
    source, target = Path(job["directory"]), Path(job["target"])
    refuse_if_used(source)
    if job["mount"] and not os.path.ismount(job["mount"]):
        raise TransferFailed(f"{job['mount']} is not mounted")
    with open_directory(source) as here, open_directory(target, make=True) as there:
        entries = list(islice(walk(here), PATHS_MAX + 1))
        if len(entries) > PATHS_MAX:
            raise TransferFailed(f"{source} has more than {PATHS_MAX} paths")
        for entry in entries:
            if not entry.is_file and not entry.is_directory:
                raise TransferFailed(f"{source}/{entry.path} is neither a file nor a directory")
        _copy_all(here, there, entries, Limiter(job["bytes_per_second"]))
        files = [entry for entry in entries if entry.is_file]
        for entry in files:
            now = status_of(here, entry.path)
            if (now.st_size, now.st_mtime_ns) != (entry.status.st_size, entry.status.st_mtime_ns):
                raise TransferFailed(f"{source}/{entry.path} changed during the move")
        refuse_if_used(source)
        delete_all(here, [entry.path for entry in files])
    remove_empty(source)
    emit(done=True)


def _copy_all(here: int, there: int, entries: list[Entry], limiter: Limiter) -> None:
    """Copy *entries* from one directory to the other, and read back each file."""
    digests = {}
    for entry in entries:
        if entry.is_directory:
            make_directory(there, entry.path)
        else:
            digests[entry.path] = _copy_file(here, there, entry, limiter)
    for path, digest in digests.items():
        if _digest(there, path) != digest:
            raise TransferFailed(f"the copy of {path} was read back with another content")
    for entry in reversed([each for each in entries if each.is_directory]):  # after the files, which change the times
        with open_below(there, entry.path) as directory:
            take_over(entry.status, directory)
    take_over(os.fstat(here), there)
    os.sync()


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


def _measure(directory: int, path: str) -> dict[str, Any]:
    size = files = 0
    newest = os.fstat(directory).st_mtime
    for number, entry in enumerate(walk(directory)):
        if number >= PATHS_MAX:
            raise TransferFailed(f"{path} has more than {PATHS_MAX} paths")
        newest = max(newest, entry.status.st_mtime)
        if entry.is_file:
            files, size = files + 1, size + entry.status.st_size
    return {"bytes": size, "files": files, "newest": newest}


def _copy_file(here: int, there: int, entry: Entry, limiter: Limiter) -> str:
    """Copy one file if it is not there yet, and return its digest.

    Raises:
        TransferFailed: the target has something else of that name.
    """
    if _exists(there, entry.path):
        digest = _digest(here, entry.path)
        if not stat.S_ISREG(status_of(there, entry.path).st_mode) or _digest(there, entry.path) != digest:
            raise TransferFailed(f"{entry.path} exists with another content at the target")
        return digest
    with open_file(here, entry.path) as source, replace_file(there, entry.path) as target:
        before = os.fstat(source.fileno())
        found = measure(write_through(blocks(source, limiter), target))
        target.flush()
        os.fsync(target.fileno())
        os.posix_fadvise(target.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)  # so that the drive is read back
        take_over(before, target.fileno())
    emit(bytes=found["bytes"])
    return str(found["sha256"])


def _exists(top: int, path: str) -> bool:
    try:
        status_of(top, path)
    except FileNotFoundError:
        return False
    return True


def _digest(top: int, path: str) -> str:
    with open_file(top, path) as file:
        return str(measure(blocks(file, Limiter(None)))["sha256"])
