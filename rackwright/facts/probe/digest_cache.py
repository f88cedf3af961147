"""The digests of files that did not change since an earlier probe: the only file that the probe writes to a host.

A digest is used again if device, inode, size, mtime and ctime of the file are those of the earlier probe. Accounts can
set mtime, but the kernel alone sets ctime, at every change of a file. Only root can set the clock.

A file that changed and has the digest of the earlier probe had this content from its earlier ctime to that probe. The
cache keeps these times, so that a service which started within them is known to have read the present content.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import time
from typing import Any, Callable

from rackwright.facts.probe.observe import attempt

FOLDER, NAME = "/var/cache/rackwright", "digests"
SETTLED_SECONDS = 3600.0
"""Age of the last change from which a digest is kept. A write to a mapped page that is still dirty changes no ctime.

The kernel writes dirty pages after 30 s (vm.dirty_expire_centisecs); the next write to the page then sets ctime.
"""
FILESYSTEMS = frozenset(("btrfs", "ext2", "ext3", "ext4", "f2fs", "xfs", "zfs"))
"""Filesystems that write dirty pages back, and whose times this kernel sets; neither is true of tmpfs, NFS or FUSE."""
BYTES = 64 << 20
"""Maximum size of the file."""
STALE_SECONDS = 600
"""Age of the half-written file of a probe that was killed."""
SPANS = 4
"""Most times for which one content of a file is kept."""
GONE = "x "
"""Beginning of the line of a file that changed within SETTLED_SECONDS: only its digest and its times count."""
PURPOSE = b"rwcache1"
"""Separates the file's own digest from the digests of other files under the same key. Source: RFC 7693, section 2.8."""


class DigestCache:
    """The digests of the earlier probe, and those of this one."""

    def __init__(self, root: str, salt: bytes, compute: Callable[[str, os.stat_result], str], name: str = NAME) -> None:
        """
        Args:
            compute: Returns the digest of the content of a file: the path below *root*, and its status.
            name: The file of the cache, one for each sort of digests.
        """
        self._path, self._salt, self._compute = f"{root}{FOLDER}/{name}", salt, compute
        self._start_ns = time.time_ns()
        self._settled_ns = self._start_ns - int(SETTLED_SECONDS * 1e9)
        self._devices = kept_devices() if may_keep(root) else frozenset()
        self._earlier, self._seen_ns = load(self._path, salt) if self._devices else ({}, 0)
        self._current: dict[str, str] = {}
        self.spans: dict[str, list[list[int]]] = {}
        """For each changed file, times from and to which it had its present content, in nanoseconds since 1970."""

    def digest(self, path: str, status: os.stat_result) -> Any:
        """Return the digest of the file *path*, or why it is unknown.

        Args:
            status: The status of the file from before its content is read, so that a later change shows.
        """
        if (earlier := self.earlier(path, status)) is not None:
            return earlier
        computed = attempt(self._compute, path, status)
        if isinstance(computed, str):
            spans = self._spans_of(path, computed)
            if spans:
                self.spans[path] = spans
            if self._may_keep(status):
                self._current[path] = state_of(status) + computed + text_of(spans)
            elif spans and status.st_dev in self._devices:
                self._current[path] = GONE + computed + text_of(spans)
        return computed

    def _spans_of(self, path: str, digest: str) -> list[list[int]]:
        """Return the times for which an earlier probe knows that a file had the content with *digest*."""
        words = self._earlier.get(path, "").split()
        is_gone, words = words[:1] == ["x"], words[1:] if words[:1] == ["x"] else words
        own, words = ([], words) if is_gone else (words[:5], words[5:])
        if not words or words[0] != digest:
            return []
        spans = [[int(each) for each in word.split("-")] for word in words[1:]]
        return [*spans, *([[int(own[3]), self._seen_ns]] if own else [])][-SPANS:]

    def earlier(self, path: str, status: os.stat_result) -> str | None:
        """Return the digest of an earlier probe; None without one of the file as it stands."""
        state, line = state_of(status), self._earlier.get(path, "")
        if not self._may_keep(status) or not line.startswith(state):
            return None
        self._current[path] = line
        digest, _, spans = line[len(state) :].partition(" ")
        if spans:
            self.spans[path] = [[int(each) for each in word.split("-")] for word in spans.split()]
        return digest

    def _may_keep(self, status: os.stat_result) -> bool:
        return status.st_ctime_ns <= self._settled_ns and status.st_dev in self._devices

    def save(self) -> None:
        """Write the digests for the next probe; a host without room for them only has none."""
        if not self._devices:
            return
        with contextlib.suppress(OSError):
            if self._current != self._earlier:
                write(self._path, self._current, self._salt)
            # this is the time of the probe that saw these files: a new time costs less than a new file
            os.utime(self._path, ns=(self._start_ns, self._start_ns), follow_symlinks=False)


def state_of(status: os.stat_result) -> str:
    """Return the values of a file that are others after each change."""
    return f"{status.st_ino} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_dev} "


def text_of(spans: list[list[int]]) -> str:
    return "".join(f" {start}-{end}" for start, end in spans)


def may_keep(root: str) -> bool:
    """Return whether this process is root's, and makes a folder that only root can write."""
    folder = root + FOLDER
    try:
        if os.geteuid() != 0 or not is_of_root(os.lstat(os.path.dirname(folder)), stat.S_IFDIR, 0o022):
            return False
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, 0o700)
        return is_of_root(os.lstat(folder), stat.S_IFDIR, 0o077)
    except OSError:
        return False


def is_of_root(status: os.stat_result, kind: int, forbidden: int) -> bool:
    """Return whether root owns a file of this *kind*, and its mode has none of the *forbidden* bits."""
    return stat.S_IFMT(status.st_mode) == kind and status.st_uid == 0 and not status.st_mode & forbidden


def kept_devices() -> frozenset[int]:
    """Return the numbers of the devices with one of FILESYSTEMS."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        rows = [line.partition(" - ") for line in file]
    numbers = [row[0].split()[2].split(":") for row in rows if row[2].split(" ", 1)[0] in FILESYSTEMS]
    return frozenset(os.makedev(int(major), int(minor)) for major, minor in numbers)


def load(path: str, salt: bytes) -> tuple[dict[str, str], int]:
    """Return the digests in the file *path*, and when they were true; none if another account could have written it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return {}, 0
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not is_of_root(status, stat.S_IFREG, 0o177) or status.st_nlink != 1 or status.st_size > BYTES:
            return {}, 0
        mark, _, content = file.read(BYTES).partition(b"\n")
    if mark != keyed_mark(content, salt):
        return {}, 0  # another fleet's, or damaged
    digests: dict[str, str] = json.loads(content)
    return digests, status.st_mtime_ns


def write(path: str, digests: dict[str, str], salt: bytes) -> None:
    """Write *digests* to the file *path*, whole or not at all; do nothing while another probe writes it."""
    temporary = f"{path}.new"
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        if time.time() - os.lstat(temporary).st_mtime > STALE_SECONDS:
            os.unlink(temporary)
        return
    try:
        content = json.dumps(digests, separators=(",", ":")).encode()
        with open(descriptor, "wb") as file:
            file.write(keyed_mark(content, salt) + b"\n" + content)
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def keyed_mark(content: bytes, salt: bytes) -> bytes:
    """Return the digest under the fleet's key that the file begins with."""
    return hashlib.blake2s(content, key=salt, person=PURPOSE).hexdigest().encode()
