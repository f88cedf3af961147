"""The packaged files that are gone, and packaged files that have lost rights that programs need."""

from __future__ import annotations

import os
import re
import stat
from fnmatch import translate
from typing import Iterable, Iterator

from rackwright.facts.probe.observe import listing, read
from rackwright.facts.probe.system import LEFT_OVER

ROOTS = (b"/usr", b"/boot")
"""Directories whose packaged files must be there; those of /etc are the configuration files, which dpkg names."""
DOCUMENTATION = tuple(
    f"/usr/share/{name}/".encode() for name in ("doc", "gnome", "help", "info", "lintian", "locale", "man")
)
"""Directories that images of systems leave out, and that no program needs."""
SETTINGS = ("/etc/dpkg/dpkg.cfg", "/etc/dpkg/dpkg.cfg.d")
FILTER = re.compile(r"\s*path-(exclude|include)\s*=?\s*(\S+)\s*")
"""A setting of dpkg to leave files of packages out. Another rule finds changed settings. Source: dpkg(1)."""
FEW = 200
"""Number of directories up to which one expression finds their files in a list."""
READ, ENTER, RUN = 0o444, 0o555, 0o111
PROGRAMS = (b"/usr/bin", b"/usr/sbin", b"/usr/libexec", b"/usr/games", b"/usr/lib/openssh")
"""Directories that have programs alone."""
OF_SYSTEMD, LOADER = b"/usr/lib/systemd", re.compile(rb"ld-linux[\w.-]*\.so\.\d+|ld-\d[\d.]*\.so")


class Filters:
    """The settings of dpkg that leave out files of packages: the last one that matches a path decides."""

    def __init__(self, root: str) -> None:
        names = [SETTINGS[0], *(f"{SETTINGS[1]}/{name}" for name in listing(root + SETTINGS[1]) if is_read(name))]
        texts = [read(root + name) for name in names if os.path.isfile(root + name)]
        rows = [FILTER.fullmatch(line) for text in texts for line in text.split("\n")]
        self._rows = [(row[1] == "exclude", re.compile(translate(row[2]))) for row in rows if row]

    def leave_out(self, path: str) -> bool:
        is_left_out = False
        for excludes, pattern in self._rows if self._rows else ():
            if pattern.match(path):
                is_left_out = excludes
        return is_left_out


def is_read(name: str) -> bool:
    return not name.endswith((*LEFT_OVER, "~")) and re.fullmatch(r"[\w-]+", name) is not None


class Missing:
    """The paths of packages in the judged directories that are not there."""

    def __init__(self, root: str, folders: Iterable[bytes], present: set[bytes]) -> None:
        self._root, self._present = root, present
        self._folders = {path for path in folders if path.startswith(ROOTS)}
        parts = b"|".join(re.escape(path) for path in self._folders)
        is_few = 0 < len(self._folders) <= FEW
        self._pattern = re.compile(rb"(?<=\n)(?:" + parts + rb")/[^/\n]+(?=\n)") if is_few else None

    def of_list(self, content: bytes, lines: list[bytes]) -> Iterator[bytes]:
        """Yield the missing paths of a list of dpkg, whose paths are those of a merged /usr."""
        if not self._folders:
            return
        if self._pattern is not None:
            yield from ({*self._pattern.findall(content)} - self._present)
            return
        for line in {*lines} - self._present:
            if line.startswith(ROOTS) and line.rpartition(b"/")[0] in self._folders:
                yield line


def confirm(root: str, paths: Iterable[bytes]) -> Iterator[bytes]:
    """Yield those of *paths* that programs need, that no setting of dpkg leaves out, and that are not there now."""
    filters = Filters(root)
    for path in sorted(paths):
        text = path.decode("utf-8", "surrogateescape")
        is_needed = not path.startswith(DOCUMENTATION)
        if is_needed and not filters.leave_out(text) and not os.path.lexists(root.encode() + path):
            yield path


def lacks_rights(path: bytes, status: os.stat_result) -> bool:
    """Return whether a file of /usr has not the rights that packages give: all accounts read it, and run programs."""
    mode = status.st_mode
    if stat.S_ISDIR(mode):
        return mode & ENTER != ENTER
    if not stat.S_ISREG(mode):
        return False
    return mode & READ != READ or (mode & RUN != RUN and is_program(path))


def is_program(path: bytes) -> bool:
    folder, _, name = path.rpartition(b"/")
    is_of_systemd = folder == OF_SYSTEMD and name.startswith(b"systemd")
    return folder in PROGRAMS or is_of_systemd or LOADER.fullmatch(name) is not None
