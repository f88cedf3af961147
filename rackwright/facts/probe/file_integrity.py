"""An account of the system's files: each one is packaged and unchanged, or it is listed.

dpkg knows the digest of each packaged file. A file that has not changed since dpkg wrote the list of its package needs
no digest: the kernel sets the time of every change (ctime). A directory whose files have the times of an earlier probe
needs no second judgement. So most probes read neither a file nor a list of dpkg.
"""

from __future__ import annotations

import ctypes
import gc
import hashlib
import os
import re
import stat
import time
from glob import glob
from itertools import islice
from typing import Any, Callable, Dict, Iterable, Iterator

from rackwright.facts.digest import digest
from rackwright.facts.probe import digest_cache, generated_files, missing
from rackwright.facts.probe.observe import ReadError, attempt, listing, read_untrusted
from rackwright.facts.probe.packaged import DPKG_INFO, LOCAL, UCF, VENDOR_FOLDERS, conffiles, ucf_digests
from rackwright.facts.probe.sources import System
from rackwright.facts.probe.system import DPKG_STATUS, FILE_BYTES, FILE_ROOTS, entry, link_digest

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
MERGED = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
"""Links of a merged /usr: a package may list a file by either path."""
VENDORS = frozenset(VENDOR_FOLDERS)
RIGHTS = stat.S_ISUID | stat.S_ISGID | stat.S_IWGRP | stat.S_IWOTH
XATTRS = {
    "security.capability": "capabilities",
    "system.posix_acl_access": "acl",
    "system.posix_acl_default": "default_acl",
}
"""Key of a row for each extended attribute that gives rights. Source: capabilities(7), acl(5)."""
IMMUTABLE, APPEND_ONLY = 0x10, 0x20
"""STATX_ATTR_IMMUTABLE and STATX_ATTR_APPEND, include/uapi/linux/stat.h."""
AT_FDCWD, NO_FOLLOW = -100, 0x100
INSTALLED_NS = 3_600_000_000_000
"""Time that an installation may take from the list of a package to its scripts, or the copy of a whole system."""
OF_PACKAGES = (b"/usr/", b"/etc/", b"/var/", b"/run/", b"/proc/", b"/dev/null", b"/boot/")
"""Beginnings of the targets of packaged links."""
BYTECODE = "__pycache__"
BYTECODE_NAME = re.compile(rb"(.+)\.cpython-\d+(?:\.opt-[12])?\.pyc")
MASKED = b"/dev/null"
ROWS, ROWS_EACH = 4_000, 400
"""Largest number of rows, and of those of one directory; others are counted."""
LISTED = tuple(f"{top}/" for top in FILE_ROOTS)
"""Directories whose files the probe lists with digest and mode already."""
COLLAPSED = 50
"""Number of files from which an unpackaged directory below /usr is one row."""
LIST_BYTES = 64 << 20
"""Largest list of dpkg that the probe reads."""
ENTRIES, ENTRIES_EACH = 2_000_000, 200_000
"""Largest number of files below one of the roots, and in one directory; a directory with more is not judged."""
DIGEST_SECONDS = 90.0
"""Time for digests of packaged files; those that are left are counted, and the next probe reads them."""
CACHE_NAME, CACHE_FORMAT = "integrity", 2
"""The file in the cache, and the number of the form of its content."""
OF_PERSONS = re.compile(
    r"/usr/local(/(bin|etc|games|include|lib|man|sbin|share|src))?|/usr/local/lib/python3[.\d]*(/dist-packages)?"
)
"""Directories for a person's own files, which packages make in their scripts."""

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
    tops = [path for path in ROOTS if os.path.isdir(root + path)]
    runtime = sorted({path[len(root) :] for pattern in RUN for path in glob(glob_escape(root) + pattern)})
    folders = []
    changed = []
    for top in (*tops, *runtime):
        for folder in walk(root, top):
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
        "names": attempt(generated_files.names, root),
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


def glob_escape(root: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", root)


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


class Cache:
    """Results of an earlier probe in each directory, while dpkg's database and the directory are unchanged."""

    def __init__(self, root: str, salt: bytes) -> None:
        self._path, self._salt = f"{root}{digest_cache.FOLDER}/{CACHE_NAME}", salt
        self._devices = digest_cache.kept_devices() if digest_cache.may_keep(root) else frozenset()
        self._settled_ns = int((time.time() - digest_cache.SETTLED_SECONDS) * 1e9)
        earlier: Any = digest_cache.load(self._path, salt)[0] if self._devices else {}
        self._epoch = epoch(root)
        self._earlier: dict[str, Any] = earlier.get("folders", {})
        self._memo: dict[str, Any] = earlier.get("memo", {})
        self._same_epoch = earlier.get("epoch") == self._epoch
        self._current: dict[str, Any] = {}
        self._changed = not self._same_epoch

    def recall(self, folder: Folder) -> bool:
        """Fill *folder* with the result of the earlier probe and return True, or return False."""
        known = self.earlier_result(folder)
        if known is None or not self._same_epoch:
            return False
        _, folder.packaged, folder.derived, folder.rows = known
        return True

    def answer(self, memo: Memo, judged: Judge) -> bool:
        """Fill *judged* with the answer that an earlier probe found, and return whether there is one."""
        if not self._same_epoch or self._memo.get("key") != memo.key:
            return False
        judged.missing = {os.fsencode(path): package for path, package in self._memo["missing"].items()}
        for path, (installed, copied, packages, alias) in self._memo["paths"].items():
            raw = os.fsencode(path)
            judged.installed[raw], judged.copied[raw], judged.packages[raw] = installed, copied, packages
            if alias:
                judged.listed_as[raw] = os.fsencode(alias)
        return True

    def remember(self, memo: Memo, judged: Judge) -> None:
        """Keep the answer for the next probe."""
        self._changed = True
        self._memo = {}
        if memo.is_kept:
            rows = {
                os.fsdecode(path): [
                    time_ns,
                    judged.copied[path],
                    judged.packages[path],
                    os.fsdecode(judged.listed_as.get(path, b"")),
                ]
                for path, time_ns in judged.installed.items()
            }
            gone = {os.fsdecode(path): package for path, package in judged.missing.items()}
            self._memo = {"key": memo.key, "paths": rows, "missing": gone}

    def earlier_result(self, folder: Folder) -> Any:
        """Return the earlier result for an unchanged directory, of an older database too; None without one."""
        known = self._earlier.get(folder.path)
        return known if known is not None and known[0] == folder.fingerprint else None

    def keep(self, folder: Folder) -> None:
        """Keep the result for *folder*, unless one of its files has changed just now or was not judged."""
        if folder.newest_ns > self._settled_ns or folder.status.st_dev not in self._devices or folder.pending:
            self._changed |= folder.path in self._earlier
            return
        result = self._earlier.get(folder.path)
        if not (self._same_epoch and result and result[0] == folder.fingerprint):
            result = [folder.fingerprint, folder.packaged, folder.derived, folder.rows]
            self._changed = True
        self._current[folder.path] = result

    def save(self) -> None:
        if self._devices and self._changed:
            content: Any = {"epoch": self._epoch, "folders": self._current, "memo": self._memo}
            attempt(digest_cache.write, self._path, content, self._salt)


def epoch(root: str) -> list[Any]:
    """Return the state of dpkg's database, which each change of a package changes."""
    paths = (DPKG_INFO, DPKG_STATUS, "/var/lib/dpkg/diversions", UCF)
    statuses = [os.stat(root + path) if os.path.exists(root + path) else None for path in paths]
    return [CACHE_FORMAT, *[status and [status.st_ino, status.st_mtime_ns, status.st_ctime_ns] for status in statuses]]


class Judge:
    """The questions about the entries of changed directories, answered from dpkg's lists in one pass."""

    def __init__(self, root: str, salt: bytes) -> None:
        self.root, self.salt = root, salt
        self.installed: dict[bytes, int] = {}
        """Time at which dpkg wrote the list of the package, by path; 0 for a path in no list."""
        self.copied: dict[bytes, int] = {}
        """Time at which that list came to this filesystem: later on a copied image."""
        self.packages: dict[bytes, list[str]] = {}
        """Packages of a path."""
        self.listed_as: dict[bytes, bytes] = {}
        """Path in the list, of a path that dpkg lists through a link."""
        self.missing: dict[bytes, str] = {}
        """Package of each path that is not there, in the directories that are judged."""
        self.diverted = diversions(root)
        self.alternatives = generated_files.alternatives(root)
        self.end = time.monotonic() + DIGEST_SECONDS
        self.now_ns = time.time_ns()
        self.digests: dict[str, dict[bytes, bytes]] = {}

    def read_lists(self, names: Iterable[str], wanted: set[bytes], folders: Iterable[bytes] = ()) -> None:
        """Find the packages of the paths *wanted*, and the paths of packages in *folders* that are not among them."""
        diverted = self.diverted
        missed = missing.Missing(self.root, folders, wanted)
        merged = [path.encode() for path in MERGED if os.path.islink(self.root + path)]
        for name in names:
            package = name[: -len(".list")]
            path = f"{self.root}{DPKG_INFO}/{name}"
            with open(path, "rb") as file:
                status, content = os.fstat(file.fileno()), b"\n" + file.read(LIST_BYTES)
            for top in merged:
                content = content.replace(b"\n" + top + b"/", b"\n/usr" + top + b"/")
            lines = content.split(b"\n")
            for line in missed.of_list(content, lines):
                target, by = diverted.get(line, (line, package))
                self.missing[line if by == package else target] = package
            for line in lines:
                if line in wanted or line in diverted:
                    target, by = diverted.get(line, (line, package))
                    line = line if by == package else target
                    self.installed[line] = max(self.installed.get(line, 0), status.st_mtime_ns)
                    self.copied[line] = max(self.copied.get(line, 0), status.st_ctime_ns)
                    self.packages.setdefault(line, []).append(package)

    def expected_digests(self, path: bytes) -> set[bytes]:
        """Return the digests (MD5) of the file *path* in its packages."""
        found = set()
        for package in self.packages.get(path, ()):
            digests = self.digests.get(package)
            if digests is None:
                digests = self.digests[package] = self.package_digests(package)
            found.add(digests.get(self.listed_as.get(path, path), b""))
        return found - {b""}

    def package_digests(self, package: str) -> dict[bytes, bytes]:
        """Return the digests (MD5) of the files of *package* by path; of a diverted file by the path that it has."""
        path = f"{self.root}{DPKG_INFO}/{package}.md5sums"
        if not os.path.exists(path):
            return {}
        with open(path, "rb") as file:
            rows = (line.partition(b"  ") for line in file.read(LIST_BYTES).split(b"\n"))
            digests = {usr(b"/" + name): value for value, _, name in rows if name}
        for old in digests.keys() & self.diverted.keys():
            new, by = self.diverted[old]
            if by != package:
                digests[new] = digests.pop(old)
        return digests


def diversions(root: str) -> dict[bytes, tuple[bytes, str]]:
    """Return the path to which dpkg diverts each path, and the package that diverts it. Source: dpkg-divert(1)."""
    path = f"{root}/var/lib/dpkg/diversions"
    if not os.path.exists(path):
        return {}
    with open(path, "rb") as file:
        lines = [usr(line) for line in file.read(LIST_BYTES).split(b"\n")]
    rows = zip(lines[::3], lines[1::3], lines[2::3])
    return {old: (new, package.decode("utf-8", "replace")) for old, new, package in rows}


def usr(path: bytes) -> bytes:
    """Return *path* below a merged /usr."""
    return b"/usr" + path if path.startswith(tuple(f"{top}/".encode() for top in MERGED)) else path


def judge(root: str, salt: bytes, folders: list[Folder], cache: Cache, lists: list[str]) -> None:
    """Find for each entry of *folders* whether a package has it, and whether it has changed since."""
    judged = Judge(root, salt)
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
    if not cache.answer(memo, judged):
        judged.read_lists(lists, wanted, [os.fsencode(folder.path) for folder in folders])
        judged.missing = {path: judged.missing[path] for path in missing.confirm(root, judged.missing)}
        read_lists_through_links(judged, lists, wanted, aliases)
        cache.remember(memo, judged)
    settings = {**conffiles(root), **ucf_digests(root)}
    gone: dict[str, dict[str, Row]] = {}
    for raw, package in judged.missing.items():
        parent, name = os.path.split(os.fsdecode(raw))
        gone.setdefault(parent, {})[name] = {"state": "missing", "package": package}
    for folder in folders:
        folder.rows.update(gone.get(folder.path, {}))
        judge_folder(judged, folder, cache.earlier_result(folder), settings)


def links_to_folders(root: str, folder: Folder) -> Iterator[tuple[bytes, bytes]]:
    """Yield the links in *folder* to directories of /usr, with their targets: dpkg may list files below the links."""
    if not f"{folder.path}/".startswith("/usr/"):
        return
    base = os.path.realpath(root) if root else ""
    for name, status in folder.entries:
        if stat.S_ISLNK(status.st_mode):
            path = f"{folder.path}/{name}"
            target = os.path.realpath(root + path)[len(base) :]
            if target.startswith("/usr/") and os.path.isdir(root + target):
                yield os.fsencode(path), os.fsencode(target)


def read_lists_through_links(judged: Judge, lists: list[str], wanted: set[bytes], aliases: dict[bytes, bytes]) -> None:
    """Find the packages that list a file by a path through one of the links *aliases*."""
    by_target: dict[bytes, list[bytes]] = {}
    for link, target in aliases.items():
        by_target.setdefault(target, []).append(link)
    asked: dict[bytes, bytes] = {}
    for path in wanted if by_target else ():
        parent = b"" if path in judged.installed else os.path.dirname(path)
        while len(parent) > len("/usr"):
            asked.update({link + path[len(parent) :]: path for link in by_target.get(parent, ())})
            parent = os.path.dirname(parent)
    if not asked:
        return
    other = Judge(judged.root, judged.salt)
    other.read_lists(lists, {*asked})
    for alias in asked.keys() & other.installed.keys():
        path = asked[alias]
        judged.installed[path], judged.copied[path] = other.installed[alias], other.copied[alias]
        judged.packages[path] = other.packages[alias]
        judged.listed_as[path] = alias


class Memo:
    """The question which packages have some paths, and its answer while dpkg's database is unchanged."""

    LARGEST = 60_000
    """Number of paths up to which the answer is kept."""

    def __init__(self, wanted: set[bytes], aliases: dict[bytes, bytes]) -> None:
        question = hashlib.blake2s(digest_size=16)
        for part in (*sorted(wanted), b"", *sorted(aliases), b"", *sorted(aliases.values())):
            question.update(part + b"\0")
        self.key = question.hexdigest()
        self.is_kept = len(wanted) <= self.LARGEST


def judge_folder(judged: Judge, folder: Folder, known: Any, settings: dict[str, str]) -> None:
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
            row = special_rights(judged.root + path, status)
        elif name in earlier:
            row = {key: value for key, value in earlier[name].items() if key in KEPT}
        if in_run:
            state = "" if is_folder else "unpackaged"
        elif raw not in judged.installed and path not in settings:
            state = "unpackaged"
            if is_derived(judged, raw, status) or is_alternative(judged, path, status):
                folder.derived += 1
                state = "derived"
        elif is_folder or path in settings or was_packaged(earlier, name):
            state = "packaged"
        else:
            state = attempt_state(judged, raw, status)
        if state == "packaged":
            folder.packaged += not is_folder
            if has_lost_rights(judged, folder, raw, status):
                row["lost"] = True
        if state == "pending":
            folder.pending += 1
        if name == "." and folder.rows.get("."):
            continue  # not read, for the reason that stands there
        if (state == "unpackaged" and not is_folder) or state == "changed" or row:
            row["state"] = state or "unpackaged"
            is_listed = path.startswith(LISTED) and not is_folder
            folder.rows[name] = row if is_listed else {**describe_file(judged, folder, path, status), **row}
        elif state == "unpackaged":
            folder.rows[name] = {"state": "folder"}


def was_packaged(earlier: dict[str, Row] | None, name: str) -> bool:
    """Return whether an earlier probe found an unchanged file as its package installed it."""
    return earlier is not None and earlier.get(name, {"state": "packaged"})["state"] == "packaged"


KEPT = ("rights", *XATTRS.values(), "flags")


def has_lost_rights(judged: Judge, folder: Folder, path: bytes, status: os.stat_result) -> bool:
    """Return whether a packaged file has fewer rights than packages give, by a change after the installation.

    Some files have few rights from the start, such as keys.
    """
    if folder.path.startswith("/usr"):
        if not missing.lacks_rights(path, status):
            return False
    elif not folder.path.startswith("/etc") or not stat.S_ISREG(status.st_mode) or status.st_mode & 0o004:
        return False
    times = [judged.copied.get(path, 0), judged.installed.get(path, 0)]
    return 0 < max(times) <= judged.now_ns and status.st_ctime_ns > max(times) + INSTALLED_NS


def attempt_state(judged: Judge, path: bytes, status: os.stat_result) -> str:
    """Return whether a packaged file is as installed: packaged, changed, or pending for one that was not read."""
    if status.st_ctime_ns <= judged.installed[path] <= judged.now_ns:
        return "packaged"  # a list from the future says nothing about a time
    expected = judged.expected_digests(path)
    if expected and not stat.S_ISREG(status.st_mode):
        return "changed"  # a link, or another sort of file, in the place of a plain one
    if not expected:
        # dpkg knows no target of a link, and no digest of some files: the time decides, and where a link leads
        times = [each for each in (judged.copied[path], judged.installed[path]) if each <= judged.now_ns]
        is_late = status.st_ctime_ns > max(times, default=0) + INSTALLED_NS
        return "changed" if is_late or leads_elsewhere(judged.root, path, status) else "packaged"
    if time.monotonic() > judged.end:
        return "pending"
    try:
        return "packaged" if md5(judged.root.encode() + path) in expected else "changed"
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


def is_derived(judged: Judge, path: bytes, status: os.stat_result) -> bool:
    """Return whether *path* is bytecode that says that it is of a packaged source as it stands. Source: PEP 552."""
    if stat.S_ISDIR(status.st_mode):
        return path.endswith(f"/{BYTECODE}".encode())
    source = source_of(path)
    if source == path or source not in judged.installed or not stat.S_ISREG(status.st_mode):
        return False
    try:
        of_source = os.stat(judged.root.encode() + source)
        descriptor = os.open(judged.root.encode() + path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            header = os.read(descriptor, 16)
        finally:
            os.close(descriptor)
    except OSError:
        return False
    times = [int(of_source.st_mtime) & 0xFFFFFFFF, of_source.st_size & 0xFFFFFFFF]
    return header[4:] == b"\0\0\0\0" + b"".join(value.to_bytes(4, "little") for value in times)


def is_alternative(judged: Judge, path: str, status: os.stat_result) -> bool:
    """Return whether *path* is a link of update-alternatives to a file of /usr or /etc that its database names."""
    if not stat.S_ISLNK(status.st_mode):
        return False
    targets = judged.alternatives.get(path) or judged.alternatives.get(path[len("/usr") :]) or set()
    target = os.readlink(judged.root + path)
    return target in targets and usr(os.fsencode(target)).startswith((b"/usr/", b"/etc/"))


def special_rights(path: str, status: os.stat_result) -> Row:
    """Return the rights of a file beside those that most packaged files have; empty for a plain one."""
    row: Row = {}
    mode = status.st_mode
    if status.st_uid or status.st_gid or (mode & RIGHTS and not stat.S_ISLNK(mode)):
        row["rights"] = True
    if stat.S_ISLNK(mode):
        return row
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError:
        names = []
    for name in names:
        if name in XATTRS:
            row[XATTRS[name]] = attempt(lambda name=name: os.getxattr(path, name, follow_symlinks=False).hex())
    if flags := statx_flags(path):
        row["flags"] = flags
    return row


def _statx() -> Callable[..., int] | None:
    try:
        function: Callable[..., int] = ctypes.CDLL(None, use_errno=False).statx
    except (OSError, AttributeError):
        return None  # a libc without it
    return function


STATX = _statx()
BUFFER = ctypes.create_string_buffer(256)


def statx_flags(path: str) -> str:
    """Return the attributes that keep even root from changing a file: ``immutable``, ``append-only``, or nothing."""
    if STATX is None or STATX(AT_FDCWD, os.fsencode(path), NO_FOLLOW, 0, BUFFER) != 0:
        return ""
    attributes = int.from_bytes(BUFFER.raw[8:16], "little")
    names = (("immutable", IMMUTABLE), ("append-only", APPEND_ONLY))
    return ", ".join(name for name, bit in names if attributes & bit)


def describe_file(judged: Judge, folder: Folder, path: str, status: os.stat_result) -> Row:
    """Return digest, mode, owner and time of a file."""
    mode = status.st_mode
    row = entry(status)
    if stat.S_ISLNK(mode):
        return {"digest": attempt(link_digest, judged.root + path), **row}
    if stat.S_ISREG(mode) and status.st_size <= FILE_BYTES and folder.status.st_uid == 0:
        place = os.path.split(judged.root + path)
        return {"digest": attempt(lambda: digest(read_untrusted(*place, FILE_BYTES), judged.salt)), **row}
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
