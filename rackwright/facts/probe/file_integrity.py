"""An account of the system's files: each one is packaged and unchanged, or it is listed.

dpkg knows the digest of each packaged file. A file that has not changed since dpkg wrote the list of its package needs
no digest: the kernel sets the time of every change (ctime). A directory whose files have the times of an earlier probe
needs no second judgement. So most probes read neither a file nor a list of dpkg.
"""

from __future__ import annotations

import gc
import hashlib
import os
import re
import stat
import time
from typing import Any, Iterator

from rackwright.facts.digest import digest
from rackwright.facts.probe import generated_files, host_names, missing
from rackwright.facts.probe.dpkg_lists import DpkgLists, Memo, links_to_folders, read_lists_through_links, usr
from rackwright.facts.probe.file_rights import KEPT, special_rights
from rackwright.facts.probe.file_walk import ROOTS, RUN, Folder, Row, system_folders
from rackwright.facts.probe.integrity_cache import Cache
from rackwright.facts.probe.observe import ReadError, attempt, listing, read_untrusted
from rackwright.facts.probe.packaged import DPKG_INFO, LOCAL, VENDOR_FOLDERS, conffiles, ucf_digests
from rackwright.facts.probe.sources import System
from rackwright.facts.probe.system import FILE_BYTES, FILE_ROOTS, entry, link_digest

VENDORS = frozenset(VENDOR_FOLDERS)
INSTALLED_NS = 3_600_000_000_000
"""Time that an installation may take from the list of a package to its scripts, or the copy of a whole system."""
OF_PACKAGES = (b"/usr/", b"/etc/", b"/var/", b"/run/", b"/proc/", b"/dev/null", b"/boot/")
"""Beginnings of the targets of packaged links."""
BYTECODE = "__pycache__"
BYTECODE_NAME = re.compile(rb"(.+)\.cpython-\d+(?:\.opt-[12])?\.pyc")
ROWS, ROWS_EACH = 4_000, 400
"""Largest number of rows, and of those of one directory; others are counted."""
LISTED = tuple(f"{top}/" for top in FILE_ROOTS)
"""Directories whose files the probe lists with digest and mode already."""
COLLAPSED = 50
"""Number of files from which an unpackaged directory below /usr is one row."""
OF_PERSONS = re.compile(
    r"/usr/local(/(bin|etc|games|include|lib|man|sbin|share|src))?|/usr/local/lib/python3[.\d]*(/dist-packages)?"
)
"""Directories for a person's own files, which packages make in their scripts."""


def file_integrity(root: str, salt: bytes) -> dict[str, Any]:
    """Return the files that are not as packages installed them, and the number of those that are.

    Raises:
        ReadError: the host has no lists of dpkg.
    """
    names = listing(root + DPKG_INFO, "*.list")
    if not names:
        raise ReadError(f"{DPKG_INFO} has no lists of files; the probe reads no other package manager's")
    gc.disable()  # each collection would pass over the statuses of all files, and this process ends soon
    cache = Cache(root, salt)
    folders = []
    changed = []
    for folder in system_folders(root):
        folders.append(folder)
        if cache.recall(folder):
            folder.entries = []
        else:
            changed.append(folder)
    if changed:
        judge(root, salt, changed, cache, names)
    for folder in folders:
        cache.keep(folder)
    cache.save()
    system = System(root, PackagedFiles(root, folders).has)
    rendered, reasons = generated_files.judgements(system, unpackaged_paths(folders))
    return {
        "roots": [*ROOTS, *RUN],
        **summary(folders),
        "rendered": rendered,
        "reasons": reasons,
        "names": attempt(host_names.names, root),
    }


class PackagedFiles:
    """The files that are as packages installed them."""

    def __init__(self, root: str, folders: list[Folder]) -> None:
        self._root, self._folders = root, {folder.path: folder for folder in folders}

    def has(self, path: str) -> bool:
        """Return whether *path* is a plain file that its package installed, as it installed it."""
        parent, name = os.path.split(path)
        folder = self._folders.get(parent)
        if folder is None or folder.pending or folder.rows.get(".", {}).get("state") == "unread":
            return False
        if folder.rows.get(name, {"state": "packaged"})["state"] != "packaged":
            return False
        return stat.S_ISREG(os.lstat(self._root + path).st_mode)


def unpackaged_paths(folders: list[Folder]) -> Iterator[str]:
    """Yield the files that no package installed."""
    for folder in folders:
        for name, row in folder.rows.items():
            if name != "." and row["state"] == "unpackaged":
                yield f"{folder.path}/{name}"


def judge(root: str, salt: bytes, folders: list[Folder], cache: Cache, lists: list[str]) -> None:
    """Find for each entry of *folders* whether a package has it, and whether it has changed since."""
    dpkg = DpkgLists(root, salt)
    wanted: set[bytes] = set()
    for folder in folders:
        if folder.path.startswith("/run"):
            continue
        base = os.fsencode(folder.path)
        wanted.add(base)
        wanted.update([base + b"/" + os.fsencode(name) for name, _ in folder.entries])
        if folder.path.endswith(f"/{BYTECODE}"):
            wanted.update(map(source_of, (base + b"/" + os.fsencode(name) for name, _ in folder.entries)))
    aliases = {path: target for folder in folders for path, target in links_to_folders(root, folder)}
    memo = Memo(wanted, aliases)
    if not cache.answer(memo, dpkg):
        dpkg.read_lists(lists, wanted, [os.fsencode(folder.path) for folder in folders])
        dpkg.missing = {path: dpkg.missing[path] for path in missing.confirm(root, dpkg.missing)}
        read_lists_through_links(dpkg, lists, wanted, aliases)
        cache.remember(memo, dpkg)
    settings = {**conffiles(root), **ucf_digests(root)}
    gone: dict[str, dict[str, Row]] = {}
    for raw, package in dpkg.missing.items():
        parent, name = os.path.split(os.fsdecode(raw))
        gone.setdefault(parent, {})[name] = {"state": "missing", "package": package}
    for folder in folders:
        folder.rows.update(gone.get(folder.path, {}))
        judge_folder(dpkg, folder, cache.earlier_result(folder), settings)


def judge_folder(dpkg: DpkgLists, folder: Folder, known: Any, settings: dict[str, str]) -> None:
    """Fill the rows and the counts of *folder*; *known* is its earlier result, of another state of the database."""
    earlier: dict[str, Row] | None = known[3] if known else None
    base = os.fsencode(folder.path)
    in_run = folder.path.startswith("/run")
    for name, status in ((".", folder.status), *folder.entries):
        path = folder.path if name == "." else f"{folder.path}/{name}"
        raw = base if name == "." else base + b"/" + os.fsencode(name)
        is_folder = stat.S_ISDIR(status.st_mode)
        if is_folder and name != ".":
            continue  # a folder of its own
        row: Row = {}
        if earlier is None:
            row = special_rights(dpkg.root + path, status)
        elif name in earlier:
            row = {key: value for key, value in earlier[name].items() if key in KEPT}
        if in_run:
            state = "" if is_folder else "unpackaged"
        elif raw not in dpkg.installed and path not in settings:
            state = "unpackaged"
            if is_derived(dpkg, raw, status) or is_alternative(dpkg, path, status):
                folder.derived += 1
                state = "derived"
        elif is_folder or path in settings or was_packaged(earlier, name):
            state = "packaged"
        else:
            state = attempt_state(dpkg, raw, status)
        if state == "packaged":
            folder.packaged += not is_folder
            if has_lost_rights(dpkg, folder, raw, status):
                row["lost"] = True
        if state == "pending":
            folder.pending += 1
        if name == "." and folder.rows.get("."):
            continue  # not read, for the reason that stands there
        if (state == "unpackaged" and not is_folder) or state == "changed" or row:
            row["state"] = state or "unpackaged"
            is_listed = path.startswith(LISTED) and not is_folder
            folder.rows[name] = row if is_listed else {**describe_file(dpkg, folder, path, status), **row}
        elif state == "unpackaged":
            folder.rows[name] = {"state": "folder"}


def was_packaged(earlier: dict[str, Row] | None, name: str) -> bool:
    """Return whether an earlier probe found an unchanged file as its package installed it."""
    return earlier is not None and earlier.get(name, {"state": "packaged"})["state"] == "packaged"


def has_lost_rights(dpkg: DpkgLists, folder: Folder, path: bytes, status: os.stat_result) -> bool:
    """Return whether a packaged file has fewer rights than packages give, by a change after the installation.

    Some files have few rights from the start, such as keys.
    """
    if folder.path.startswith("/usr"):
        if not missing.lacks_rights(path, status):
            return False
    elif not folder.path.startswith("/etc") or not stat.S_ISREG(status.st_mode) or status.st_mode & 0o004:
        return False
    times = [dpkg.copied.get(path, 0), dpkg.installed.get(path, 0)]
    return 0 < max(times) <= dpkg.now_ns and status.st_ctime_ns > max(times) + INSTALLED_NS


def attempt_state(dpkg: DpkgLists, path: bytes, status: os.stat_result) -> str:
    """Return whether a packaged file is as installed: packaged, changed, or pending for one that was not read."""
    if status.st_ctime_ns <= dpkg.installed[path] <= dpkg.now_ns:
        return "packaged"  # a list from the future says nothing about a time
    expected = dpkg.expected_digests(path)
    if expected and not stat.S_ISREG(status.st_mode):
        return "changed"  # a link, or another sort of file, in the place of a plain one
    if not expected:
        # dpkg knows no target of a link, and no digest of some files: the time decides, and where a link leads
        times = [each for each in (dpkg.copied[path], dpkg.installed[path]) if each <= dpkg.now_ns]
        is_late = status.st_ctime_ns > max(times, default=0) + INSTALLED_NS
        return "changed" if is_late or leads_elsewhere(dpkg.root, path, status) else "packaged"
    if time.monotonic() > dpkg.end:
        return "pending"
    try:
        return "packaged" if md5(dpkg.root.encode() + path) in expected else "changed"
    except OSError:
        return "changed"


def leads_elsewhere(root: str, path: bytes, status: os.stat_result) -> bool:
    """Return whether *path* is a link to a place outside the directories of packages."""
    if not stat.S_ISLNK(status.st_mode):
        return False
    target = usr(os.path.normpath(os.path.join(os.path.dirname(path), os.readlink(root.encode() + path))))
    return not target.startswith(OF_PACKAGES) or target.startswith(b"/usr/local/")


def md5(path: bytes) -> bytes:
    """Return the digest of a file, without following a link."""
    value = hashlib.new("md5", usedforsecurity=False) if NEW_HASHLIB else hashlib.new("md5")  # noqa: S324 - dpkg's
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb", buffering=0) as file:
        while block := file.read(1 << 20):
            value.update(block)
    return value.hexdigest().encode()


NEW_HASHLIB = hasattr(os, "pidfd_open")
"""Whether this is Python 3.9 or later, whose hashlib knows `usedforsecurity`."""


def source_of(path: bytes) -> bytes:
    """Return the source of a file of bytecode in a folder of Python's. Source: PEP 3147."""
    folder, _, name = path.rpartition(b"/")
    match = BYTECODE_NAME.fullmatch(name)
    return folder[: -len(BYTECODE) - 1] + b"/" + match[1] + b".py" if match else path


def is_derived(dpkg: DpkgLists, path: bytes, status: os.stat_result) -> bool:
    """Return whether *path* is bytecode that says that it is of a packaged source as it stands. Source: PEP 552."""
    if stat.S_ISDIR(status.st_mode):
        return path.endswith(f"/{BYTECODE}".encode())
    source = source_of(path)
    if source == path or source not in dpkg.installed or not stat.S_ISREG(status.st_mode):
        return False
    try:
        of_source = os.stat(dpkg.root.encode() + source)
        descriptor = os.open(dpkg.root.encode() + path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            header = os.read(descriptor, 16)
        finally:
            os.close(descriptor)
    except OSError:
        return False
    times = [int(of_source.st_mtime) & 0xFFFFFFFF, of_source.st_size & 0xFFFFFFFF]
    return header[4:] == b"\0\0\0\0" + b"".join(value.to_bytes(4, "little") for value in times)


def is_alternative(dpkg: DpkgLists, path: str, status: os.stat_result) -> bool:
    """Return whether *path* is a link of update-alternatives to a file of /usr or /etc that its database names."""
    if not stat.S_ISLNK(status.st_mode):
        return False
    targets = dpkg.alternatives.get(path) or dpkg.alternatives.get(path[len("/usr") :]) or set()
    target = os.readlink(dpkg.root + path)
    return target in targets and usr(os.fsencode(target)).startswith((b"/usr/", b"/etc/"))


def describe_file(dpkg: DpkgLists, folder: Folder, path: str, status: os.stat_result) -> Row:
    """Return digest, mode, owner and time of a file."""
    mode = status.st_mode
    row = entry(status)
    if stat.S_ISLNK(mode):
        return {"digest": attempt(link_digest, dpkg.root + path), **row}
    if stat.S_ISREG(mode) and status.st_size <= FILE_BYTES and folder.status.st_uid == 0:
        place = os.path.split(dpkg.root + path)
        return {"digest": attempt(lambda: digest(read_untrusted(*place, FILE_BYTES), dpkg.salt)), **row}
    if stat.S_ISREG(mode):
        return {"digest": {"unknown": f"{status.st_size} bytes"}, **row}
    if stat.S_ISDIR(mode):
        return row
    return {"digest": {"unknown": "neither a file nor a link"}, **row}


def summary(folders: list[Folder]) -> dict[str, Any]:
    """Return the rows by path, whole unpackaged directories as one row, and the number of all others."""
    files: dict[str, Row] = {}
    left_out: dict[str, int] = {}
    unpackaged: list[str] = []
    odd = {folder.path: folder for folder in sorted(folders, key=lambda each: each.path) if folder.rows}
    tops: dict[str, str] = {}
    """The highest unpackaged directory above each unpackaged directory below /usr."""
    counts: dict[str, int] = {}
    for path, folder in odd.items():
        is_own = folder.rows.get(".", {}).get("state") in ("folder", "unpackaged")
        if is_own and path.startswith("/usr/") and not OF_PERSONS.fullmatch(path):
            top = tops[path] = tops.get(os.path.dirname(path), path)
            counts[top] = counts.get(top, 0) + sum(is_plain(row) for row in folder.rows.values())
    for path, folder in odd.items():
        rows = {name: row for name, row in folder.rows.items() if row["state"] != "folder"}
        if path in VENDORS or f"{path}/".startswith(LOCAL):
            own = [name for name in rows if name != "." and rows[name]["state"] == "unpackaged"]
            unpackaged += [f"{path}/{name}" for name in own]
            # the list says all about them, and the probe lists these directories whole
            rows = {name: row for name, row in rows.items() if len(row) > 1 or row["state"] != "unpackaged"}
        top = tops.get(path, "")
        if counts.get(top, 0) > COLLAPSED:
            if path == top:
                files[path] = {**folder.rows["."], "state": "unpackaged", "files": counts[top]}
            rows = {name: row for name, row in rows.items() if name != "." and not is_plain(row)}
        shown = dict(sorted(rows.items())[:ROWS_EACH]) if len(files) < ROWS else {}
        files.update({path if name == "." else f"{path}/{name}": row for name, row in shown.items()})
        if len(rows) > len(shown):
            left_out[path] = len(rows) - len(shown)
    return {
        "files": files,
        "left_out": left_out,
        "unpackaged": sorted(unpackaged),
        "packaged": sum(folder.packaged for folder in folders),
        "derived": sum(folder.derived for folder in folders),
        "pending": sum(folder.pending for folder in folders),
    }


def is_plain(row: Row) -> bool:
    """Return whether a row of an unpackaged directory says no more than that no package installed the file."""
    return row["state"] == "unpackaged" and not any(key in row for key in KEPT)
