"""Managed Python environments as a whole: each file against the list of its package, and everything beside them.

pip writes the list of a package (RECORD) last. A file that the kernel has not changed since (ctime) is as installed.
The reader still compares as many of them as its time allows, and each probe continues where the last one ended.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import os
import re
import stat
import time
from glob import escape, glob
from typing import Any, Callable

from rackwright.facts.probe.digest_cache import DigestCache
from rackwright.facts.probe.file_rights import XATTRS
from rackwright.facts.probe.observe import ReadError, attempt, listing, read, read_untrusted
from rackwright.facts.probe.service_state import UNITS, WORKLOADS, WRITTEN
from rackwright.facts.probe.system import ENVIRONMENT_MARKER, ENVIRONMENTS, mode_text, owner_name

CACHE_NAME = "environments"
"""The file in the cache of digests."""
CHANGED_SECONDS, UNCHANGED_SECONDS = 90.0, 10.0
"""Time for the digests of files that changed after their list, and of all others."""
LIST_BYTES, FILES_MAX, SHOWN = 64 << 20, 500_000, 20
"""Largest list of a package, most files of an environment, and most odd ones that are named."""
BLOCK = 1 << 20
NOT_COMPARED = "its files are not compared"
CACHE_OF_OTHERS = "other_environments"
ORIGIN = "direct_url.json"
EDITABLE = re.compile(rb'"editable"\s*:\s*true')
"""A package whose files are elsewhere, in the record of its origin. Source: PEP 610."""
IN_UNIT = re.compile(r"^(?:ExecStart=(/\S+)/bin/python -m workloads\.\S|X-PythonEnvironment=(/\S+)$)", re.MULTILINE)
"""The environment of a server or run in its unit."""
HOME = "/usr/bin"
"""The directory of the interpreter from which the roles make their environments."""
LINK = re.compile(r"(?:/usr/bin/)?python[0-9.]*")
"""Targets of the links of an interpreter."""
OF_VENV = re.compile(r"pyvenv\.cfg|\.gitignore|bin/(?:activate(?:\.(?:csh|fish))?|Activate\.ps1)")
"""Files that the module venv writes. Source: CPython, Lib/venv."""
BYTECODE = re.compile(r"(?:(.*)/)?__pycache__/([^/]+)\.cpython-\d+(?:\.opt-[12])?\.pyc")
"""Bytecode. Beside the list itself, pip lists it alone without a digest, if a wheel lists all its files.

Source: pip 23.2.1, get_csv_rows_for_installed of operations/install/wheel.py; PEP 376.
"""
NAME_ALONE = ("METADATA", "INSTALLER")
"""Files of a package without any listed file: a name that a role gives to another package."""
UNCHECKED = (1).to_bytes(4, "little")
"""Flags of bytecode that Python runs without a look at its source. Source: PEP 552."""
RIGHTS = stat.S_IWGRP | stat.S_IWOTH | stat.S_ISUID | stat.S_ISGID


def readers(root: str, salt: bytes) -> dict[str, Callable[[], Any]]:
    """Return the readers of the environments, for a process of their own; none on a host without environments."""
    managed = {"environment_files": lambda: environment_files(root, salt)} if markers_below(root) else {}
    others = {"other_environments": lambda: other_environments(root, salt)} if paths_in_units(root) else {}
    return {**managed, **others}


def markers_below(root: str) -> list[str]:
    """Return the files that mark the managed environments, sorted."""
    return sorted(marker for pattern in ENVIRONMENTS for marker in glob(f"{root}{pattern}/{ENVIRONMENT_MARKER}"))


def paths_in_units(root: str) -> list[str]:
    """Return the environments that units of servers and runs name and that no role makes, sorted."""
    found = set()
    for name in listing(root + UNITS, "*.service"):
        path = f"{root}{UNITS}/{name}"
        if name.startswith(WORKLOADS) and not os.path.islink(path):
            text = read(path)
            if WRITTEN in text.partition("\n")[0]:
                found |= {os.path.normpath(match[1] or match[2]) for match in IN_UNIT.finditer(text)}
    managed = {os.path.dirname(marker)[len(root) :] for marker in markers_below(root)}
    return sorted(found - managed)


def environment_files(root: str, salt: bytes) -> dict[str, Any]:
    """Return what is odd in each managed Python environment, by its path; an empty list for one as it was installed."""
    paths = [os.path.dirname(marker)[len(root) :] for marker in markers_below(root)]
    return compare(root, salt, paths, CACHE_NAME, lambda environment: environment.odd())


def other_environments(root: str, salt: bytes) -> dict[str, Any]:
    """Return what is odd in each environment that a unit names and no role makes, or why its files are not compared."""
    return compare(root, salt, paths_in_units(root), CACHE_OF_OTHERS, lambda environment: environment.odd_of_others())


def compare(
    root: str, salt: bytes, paths: list[str], cache_name: str, odd: Callable[[Environment], list[str]]
) -> dict[str, Any]:
    cache = DigestCache(root, salt, lambda path, status: sha256(root + path), cache_name)
    start = time.monotonic()
    clock = (start + CHANGED_SECONDS, start + UNCHANGED_SECONDS)
    found = {path: attempt(lambda path=path: odd(Environment(root, path, cache, clock))) for path in paths}
    cache.save()
    return found


class Environment:
    """One environment, and what is odd in it."""

    def __init__(self, root: str, path: str, cache: DigestCache, clock: tuple[float, float]) -> None:
        """
        Args:
            clock: Ends of the time for files that changed after their list, and for all others.
        """
        self._root, self._path, self._cache = root, path, cache
        self._changed_end, self._unchanged_end = clock
        self._skips_odd_folders = False
        """Whether directories that another account may change are not entered."""
        self._skipped: list[str] = []
        self._odd: list[str] = []
        self._listed: dict[str, set[str]] = {}
        """Digests of each listed file, in the form of its list; several packages may list a file."""
        self._listed_at: dict[str, int] = {}
        """The time of the newest list of each file."""

    def odd(self) -> list[str]:
        """Return a line for each odd file; the number of the others comes last.

        Raises:
            ReadError: a list cannot be read, or the time does not suffice.
        """
        top = self._root + self._path
        self._odd += odd_settings(read_untrusted(top, ENVIRONMENT_MARKER).decode(errors="replace"))
        for place in sorted(glob(f"{escape(top)}/lib/python3*/site-packages/*.dist-info")):
            self._read_list(place[len(top) + 1 :])
        seen = set()
        for path, status in self._walk("", os.lstat(top)):
            self._judge(path, status)
            seen.add(path)
        for path in sorted({*self._listed} - seen):
            if not path.endswith(".pyc") and not path.startswith(tuple(self._skipped)):
                self._odd.append(f"{path} is missing")
        for name in ("bin/python", "bin/python3"):
            if not os.path.exists(f"{top}/{name}"):
                self._odd.append(f"{name} leads to no program")
        more = len(self._odd) - SHOWN
        return [*sorted(self._odd)[:SHOWN], *([f"{more} more"] if more > 0 else [])]

    def odd_of_others(self) -> list[str]:
        """Return the lines of `odd` for an environment that any program may have made, anywhere.

        An account that may change it, or a directory above it, could change files while they are read: the lines then
        say that its files are not compared.
        """
        above = ""
        for name in self._path.strip("/").split("/"):
            above += f"/{name}"
            try:
                status = os.lstat(self._root + above)
            except FileNotFoundError:
                return [f"{above} does not exist"]
            if stat.S_ISLNK(status.st_mode):
                return [f"{above} is a link; {NOT_COMPARED}"]
            if faults := odd_rights(self._root, above.lstrip("/"), status):
                return [f"{above} has {', '.join(faults)}: an account may change what runs; {NOT_COMPARED}"]
        if not os.path.lexists(f"{self._root}{self._path}/{ENVIRONMENT_MARKER}"):
            return [f"it has no {ENVIRONMENT_MARKER}, so that venv did not make it; {NOT_COMPARED}"]
        self._skips_odd_folders = True
        self._odd += [f"{each}: {NOT_COMPARED}" for each in self._outside()]
        return self.odd()

    def _outside(self) -> Any:
        """Yield the directories outside from which Python imports: those of editable packages and of .pth files."""
        for place in sorted(glob(f"{escape(self._root + self._path)}/lib/python3*/site-packages/")):
            names = listing(place)
            for name in (each for each in names if each.endswith(".pth")):
                for line in read_untrusted(place, name).decode(errors="replace").splitlines():
                    path = os.path.normpath(os.path.join(place, line.strip()))
                    if (
                        line.strip()
                        and not line.startswith(("#", "import ", "import\t"))
                        and not f"{path}/".startswith(place)
                    ):
                        yield f"{name} leads to {line.strip()[:200]}"
            for name in (each for each in names if each.endswith(".dist-info")):
                if os.path.lexists(f"{place}{name}/{ORIGIN}") and EDITABLE.search(read_untrusted(place + name, ORIGIN)):
                    yield f"{name} is installed from a directory"

    def _read_list(self, place: str) -> None:
        top = self._root + self._path
        if not os.path.lexists(f"{top}/{place}/RECORD"):
            return  # no package lists its files, and each is odd
        content = read_untrusted(f"{top}/{place}", "RECORD", LIST_BYTES)
        if len(content) >= LIST_BYTES:
            raise ReadError(f"{self._path}/{place}/RECORD is larger than {LIST_BYTES >> 20} MiB")
        written = os.lstat(f"{top}/{place}/RECORD").st_ctime_ns
        rows = list(csv.reader(content.decode("utf-8").splitlines()))
        is_alone = not rows
        if is_alone:
            rows = [[f"{os.path.basename(place)}/{name}", "", ""] for name in (*NAME_ALONE, "RECORD")]
        for row in rows:
            if len(row) != 3:
                raise ReadError(f"{self._path}/{place}/RECORD has a row of {len(row)} fields")
            path = os.path.normpath(f"{os.path.dirname(place)}/{row[0]}")
            if path.startswith(("/", "../")):
                self._odd.append(f"{place}/RECORD lists a file outside: {row[0][:100]}")
                continue
            if not row[1] and not is_alone and path != f"{place}/RECORD" and not BYTECODE.fullmatch(path):
                self._odd.append(f"{path[:200]}: {place}/RECORD has no digest of it")
            self._listed.setdefault(path, set()).update({row[1]} if row[1] else ())
            self._listed_at[path] = max(written, self._listed_at.get(path, 0))

    def _walk(self, folder: str, status: os.stat_result) -> Any:
        """Yield path and status of each file and link below *folder*; a directory with rights of others is odd."""
        faults = odd_rights(self._root + self._path, folder, status)
        if faults and self._skips_odd_folders:
            self._odd.append(f"{folder}: {', '.join(faults)}; {NOT_COMPARED}")
            self._skipped.append(f"{folder}/")
            return
        self._odd += [f"{folder or '.'}: {fault}" for fault in faults]
        with os.scandir(f"{self._root}{self._path}/{folder}") as scan:
            entries = sorted(scan, key=lambda entry: entry.name)
        for child in entries:
            path = f"{folder}/{child.name}" if folder else child.name
            of_child = child.stat(follow_symlinks=False)
            if not stat.S_ISDIR(of_child.st_mode):
                yield path, of_child
            elif of_child.st_dev != status.st_dev:
                self._odd.append(f"{path}: another filesystem is mounted here")
            else:
                yield from self._walk(path, of_child)

    def _judge(self, path: str, status: os.stat_result) -> None:
        """Note what is odd in a file or link."""
        if len(self._odd) + len(self._listed_at) > FILES_MAX:
            raise ReadError(f"{self._path} has more than {FILES_MAX} files")
        self._odd += [f"{path}: {fault}" for fault in odd_rights(self._root + self._path, path, status)]
        if stat.S_ISLNK(status.st_mode):
            target = os.readlink(f"{self._root}{self._path}/{path}")
            is_interpreter = LINK.fullmatch(path.rpartition("bin/")[2]) and LINK.fullmatch(target)
            if not is_interpreter and (path, target) != ("lib64", "lib"):
                self._odd.append(f"{path} is a link to {target[:200]}")
        elif not stat.S_ISREG(status.st_mode):
            self._odd.append(f"{path} is no regular file")
        elif bytecode := BYTECODE.fullmatch(path):
            source = "/".join(filter(None, (bytecode[1], f"{bytecode[2]}.py")))
            if source not in self._listed:
                self._odd.append(f"{path}: no package lists its source")
            elif self._flags(path) == UNCHECKED:
                self._odd.append(f"{path} runs without a look at its source")
        elif path not in self._listed:
            if not OF_VENV.fullmatch(path):
                self._odd.append(f"{path}: no package lists it")
        elif self._listed[path] and not self._is_as_listed(path, status):
            self._odd.append(f"{path} differs from its package")

    def _is_as_listed(self, path: str, status: os.stat_result) -> bool:
        whole, now = f"{self._path}/{path}", time.monotonic()
        is_changed = status.st_ctime_ns > self._listed_at[path]
        found = self._cache.earlier(whole, status)
        if found is None:
            if now > (self._changed_end if is_changed else self._unchanged_end):
                if is_changed:
                    raise ReadError(f"the files of {self._path} take more than {CHANGED_SECONDS:g} s: run it again")
                return True
            found = self._cache.digest(whole, status)
            if not isinstance(found, str):
                raise ReadError(f"{whole}: {found.get('unknown')}")
        return found in self._listed[path]

    def _flags(self, path: str) -> bytes:
        with open_regular(f"{self._root}{self._path}/{path}") as file:
            flags: bytes = file.read(8)[4:]
            return flags


def odd_settings(text: str) -> list[str]:
    """Return what is odd in a pyvenv.cfg, which the role's `python3 -m venv` writes."""
    odd, seen = [], set()
    for line in filter(None, map(str.strip, text.splitlines())):
        name, _, value = (part.strip() for part in line.partition("="))
        good = {
            "home": value == HOME,
            "include-system-site-packages": value == "false",
            "version": re.fullmatch(r"3\.[0-9.]+\w*", value) is not None,
            "executable": value.startswith(f"{HOME}/python3"),
            "command": True,
        }.get(name.lower(), False)
        if not good or name.lower() in seen:
            odd.append(f"{ENVIRONMENT_MARKER}: {line[:200]}")
        seen.add(name.lower())
    if not {"home", "include-system-site-packages"} <= seen:
        odd.append(f"{ENVIRONMENT_MARKER} has no home, or nothing about packages of the system")
    return odd


def odd_rights(top: str, path: str, status: os.stat_result) -> list[str]:
    """Return the rights that an account other than root has, and those that a program gives to its caller."""
    odd = []
    if status.st_uid not in (0, os.geteuid()) or status.st_gid not in (0, os.getegid()):
        odd.append(f"owner {owner_name(status.st_uid, status.st_gid)}")
    if stat.S_ISLNK(status.st_mode):
        return odd
    if status.st_mode & RIGHTS:
        odd.append(f"mode {mode_text(status.st_mode)}")
    try:
        names = os.listxattr(f"{top}/{path}", follow_symlinks=False)
    except OSError:  # a filesystem without attributes
        names = []
    return odd + [XATTRS[name] for name in names if name in XATTRS]


def sha256(path: str) -> str:
    """Return the digest of a file in the form of a list of pip. Source: PEP 376, PEP 427."""
    value = hashlib.sha256()
    with open_regular(path) as file:
        while block := file.read(BLOCK):
            value.update(block)
    return "sha256=" + base64.urlsafe_b64encode(value.digest()).decode().rstrip("=")


def open_regular(path: str) -> Any:
    """Return the file *path*, which root alone can replace, without following a link."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    return open(descriptor, "rb", buffering=0)
