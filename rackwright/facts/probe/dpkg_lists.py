"""The packages of paths, from dpkg's lists of files in one pass over all of them."""

from __future__ import annotations

import hashlib
import os
import stat
import time
from typing import Iterable, Iterator

from rackwright.facts.probe import generated_files, missing
from rackwright.facts.probe.file_walk import Folder
from rackwright.facts.probe.packaged import DPKG_INFO

MERGED = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
"""Links of a merged /usr: a package may list a file by either path."""
LIST_BYTES = 64 << 20
"""Largest list of dpkg that the probe reads."""
DIGEST_SECONDS = 90.0
"""Time for digests of packaged files; those that are left are counted, and the next probe reads them."""


class DpkgLists:
    """The packages, times and digests of the paths in changed directories, as dpkg knows them."""

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
        """Package of each path that is not there, in the changed directories."""
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


def read_lists_through_links(
    dpkg: DpkgLists, names: list[str], wanted: set[bytes], aliases: dict[bytes, bytes]
) -> None:
    """Find the packages that list a file by a path through one of the links *aliases*."""
    by_target: dict[bytes, list[bytes]] = {}
    for link, target in aliases.items():
        by_target.setdefault(target, []).append(link)
    asked: dict[bytes, bytes] = {}
    for path in wanted if by_target else ():
        parent = b"" if path in dpkg.installed else os.path.dirname(path)
        while len(parent) > len("/usr"):
            asked.update({link + path[len(parent) :]: path for link in by_target.get(parent, ())})
            parent = os.path.dirname(parent)
    if not asked:
        return
    other = DpkgLists(dpkg.root, dpkg.salt)
    other.read_lists(names, {*asked})
    for alias in asked.keys() & other.installed.keys():
        path = asked[alias]
        dpkg.installed[path], dpkg.copied[path] = other.installed[alias], other.copied[alias]
        dpkg.packages[path] = other.packages[alias]
        dpkg.listed_as[path] = alias


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
