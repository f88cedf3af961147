"""The directories of the system's files, with the status of each entry."""

from __future__ import annotations

import os
import re
import stat
from glob import glob
from itertools import islice
from typing import Any, Dict, Iterator

ROOTS = ("/etc", "/usr", "/boot", "/var/spool", "/var/lib/polkit-1")
RUN = (
    *(f"/run/systemd/{name}" for name in ("system", "system.control", "system.attached", "user", "user.control")),
    *(f"/run/systemd/{name}" for name in ("generator", "generator.early", "generator.late", "network", "portable")),
    *(f"/run/systemd/{kind}-generators" for kind in ("system", "user")),
    *(f"/run/systemd/{kind}-environment-generators" for kind in ("system", "user")),
    "/run/systemd/*.d",
    "/run/systemd/*.conf",
    "/run/*.d",
    *(f"/run/udev/{name}" for name in ("rules.d", "hwdb.d", "udev.conf", "udev.conf.d")),
    *(f"/run/NetworkManager/{name}" for name in ("conf.d", "dispatcher.d", "system-connections")),
    *(f"/run/{name}" for name in ("netplan", "polkit-1", "dbus-1", "ssh", "sudoers", "pam", "kernel", "chrony-dhcp")),
)
"""Directories of configuration that lasts until the next boot, as paths and patterns.

Source: systemd.unit(5), udev(7), sysctl.d(5), NetworkManager.conf(5), netplan(5), polkit(8), dbus-daemon(1)."""
ENTRIES, ENTRIES_EACH = 2_000_000, 200_000
"""Largest number of files below one of the roots, and in one directory; a directory with more is not dpkg."""
Row = Dict[str, Any]


class Folder:
    """One directory: the fingerprint of its entries, the rows of an earlier probe, and what this one finds."""

    def __init__(self, path: str, status: os.stat_result, entries: list[tuple[str, os.stat_result]]) -> None:
        self.path, self.status, self.entries = path, status, entries
        self.newest_ns = max([status.st_ctime_ns, *[each.st_ctime_ns for _, each in entries]])
        self.fingerprint = hash(
            (status.st_ino, status.st_ctime_ns, *[(each.st_ctime_ns, each.st_ino) for _, each in entries])
        )
        """Changes with each name, content, mode, owner and attribute in the directory."""
        self.rows: dict[str, Row] = {}
        self.packaged = self.derived = self.pending = 0


def system_folders(root: str) -> Iterator[Folder]:
    """Yield each directory below ROOTS and RUN."""
    tops = [path for path in ROOTS if os.path.isdir(root + path)]
    runtime = sorted({path[len(root) :] for pattern in RUN for path in glob(glob_escape(root) + pattern)})
    for top in (*tops, *runtime):
        yield from walk(root, top)


def walk(root: str, top: str) -> Iterator[Folder]:
    """Yield *top* and each directory below it on the same filesystem; a file in the place of *top* yields a folder."""
    start = os.lstat(root + top)
    if not stat.S_ISDIR(start.st_mode):
        parent = os.path.dirname(top)
        yield Folder(parent, os.lstat(root + parent), [(os.path.basename(top), start)])
        return
    count = 0
    left = [top]
    while left:
        path = left.pop()
        folder = scan(root, path)
        if folder is None:
            continue
        if folder.status.st_dev != start.st_dev:
            folder.entries = []
            folder.rows["."] = {"state": "unread", "found": "another filesystem is mounted here"}
        count += len(folder.entries)
        if count > ENTRIES:
            count -= len(folder.entries)
            folder.entries = []
            folder.rows["."] = {"state": "unread", "found": f"{top} has more than {ENTRIES} files"}
        left += [f"{path}/{name}" for name, status in folder.entries if stat.S_ISDIR(status.st_mode)]
        yield folder


def scan(root: str, path: str) -> Folder | None:
    """Return the directory *path*; None if it is gone."""
    try:
        descriptor = os.open(root + path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            with os.scandir(descriptor) as entries:
                some = islice(entries, ENTRIES_EACH + 1)
                found = [(each.name, each.stat(follow_symlinks=False)) for each in some]
            folder = Folder(path, os.fstat(descriptor), found if len(found) <= ENTRIES_EACH else [])
            if len(found) > ENTRIES_EACH:
                folder.rows["."] = {"state": "unread", "found": f"it has more than {ENTRIES_EACH} files"}
            return folder
        finally:
            os.close(descriptor)
    except (FileNotFoundError, NotADirectoryError):
        return None  # removed since its parent was listed
    except OSError as error:
        folder = Folder(path, os.lstat(root + path), [])
        folder.rows["."] = {"state": "unread", "found": str(error.strerror)}
        return folder


def glob_escape(root: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", root)
