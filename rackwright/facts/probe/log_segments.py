"""The hash chain of a host's audit log: the form of its entries, and the segments of files that they cover.

The chain is a file of JSON lines. Each line has the hash of the line before, and the hashes of the bytes that auditd
has appended to its files since then. auditd renames its files; the first line of a file identifies it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from contextlib import suppress
from typing import Any, Iterator

FOLDER, NAME = "/var/log/audit", "audit.log"
CONFIG = "/etc/audit/auditd.conf"
CHAIN = "/var/log/rackwright/audit-chain"
NO_HASH = "0" * 64
"""The previous hash of the first entry."""
MIB = 1 << 20
KEPT_FILES, FILE_MIB = 5, 8
"""Number and size of files without another setting. Source: auditd.conf of Debian's package auditd 3.0.9."""


class LogFile:
    """An open file of the audit log."""

    def __init__(self, path: str, descriptor: int) -> None:
        self.path, self._descriptor = path, descriptor
        status = os.fstat(descriptor)
        self.size, self.inode = status.st_size, status.st_ino
        line, end, _ = self.read(0, self.size).partition(b"\n")
        self.first = digest(line) if end else ""
        """Digest of the first line, which identifies the file; empty without a complete line."""

    def sync(self) -> None:
        """Wait until the file is on the drive: a power cut must not take lines of which the chain has the hash."""
        os.fsync(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)

    @property
    def is_rotated(self) -> bool:
        """Whether auditd has ended the file."""
        return not self.path.endswith(NAME)

    def read(self, start: int, end: int) -> bytes:
        """Return the bytes from *start* to *end*, at most a MiB."""
        return os.pread(self._descriptor, min(MIB, max(0, end - start)), start)

    def parts(self, start: int, end: int) -> Iterator[bytes]:
        """Yield the bytes from *start* to *end* in parts."""
        while start < end and (part := self.read(start, end)):
            yield part
            start += len(part)

    def complete_end(self) -> int:
        """Return the position after the last line break: auditd may be in the middle of a line."""
        end = self.size
        while end > 0:
            start = max(0, end - MIB)
            found = self.read(start, end).rfind(b"\n")
            if found >= 0:
                return start + found + 1
            end = start
        return 0


def digest(content: bytes) -> str:
    """Return a short digest that identifies a line."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def hash_of(line: bytes) -> str:
    """Return the SHA-256 of an entry, without its line break, which the next entry has."""
    return hashlib.sha256(line).hexdigest()


def hash_of_bytes(file: LogFile, start: int, end: int) -> str:
    """Return the SHA-256 of the bytes from *start* to *end* of *file*."""
    state = hashlib.sha256()
    for part in file.parts(start, end):
        state.update(part)
    return state.hexdigest()


def summary(content: bytes) -> dict[str, Any]:
    """Return the number of lines, the digest of the last one, and a sum that does not depend on their order.

    They only name the sort of a change: the hash of the bytes finds it.
    """
    lines = content.split(b"\n")[:-1]
    total = sum(int(digest(line), 16) for line in lines) % (1 << 128)
    return {"lines": len(lines), "last": digest(lines[-1]) if lines else "", "sum": f"{total:032x}"}


def segment(file: LogFile, start: int, end: int) -> dict[str, Any]:
    """Return the record of the bytes from *start* to *end* of *file*, which are complete lines."""
    place = {"first": file.first, "inode": file.inode, "start": start, "end": end}
    return {**place, "hash": hash_of_bytes(file, start, end), **summary(b"".join(file.parts(start, end)))}


def log_files(root: str) -> list[LogFile]:
    """Return the files of the audit log, the oldest first; the caller closes them."""
    folder = root + FOLDER
    numbers = {}
    with suppress(FileNotFoundError):
        for name in os.listdir(folder):
            if match := re.fullmatch(rf"{re.escape(NAME)}(\.(\d+))?", name):
                numbers[int(match[2] or 0)] = name
    files: dict[int, LogFile] = {}
    for _, name in sorted(numbers.items()):  # the newest first: a rotation between two opens loses no file then
        with suppress(FileNotFoundError):
            opened = os.open(f"{folder}/{name}", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            file = LogFile(f"{FOLDER}/{name}", opened)
            if file.inode in files:
                file.close()
            else:
                files[file.inode] = file
    return [*files.values()][::-1]


def rotation(root: str) -> tuple[int, int]:
    """Return the number of files that auditd keeps, and the size in MiB after which it begins another one."""
    values = {}
    with suppress(FileNotFoundError), open(root + CONFIG, encoding="utf-8", errors="replace") as file:
        for line in file:
            name, _, value = line.partition("=")
            values[name.strip().lower()] = value.strip()
    numbers = (values.get("num_logs", ""), values.get("max_log_file", ""))
    kept, size = (int(text) if text.isdigit() else usual for text, usual in zip(numbers, (KEPT_FILES, FILE_MIB)))
    return kept, size


def encode(entry: dict[str, Any]) -> bytes:
    """Return the line of *entry*, without its line break."""
    return json.dumps(entry, sort_keys=True, separators=(",", ":")).encode("ascii")


def parse(line: bytes) -> dict[str, Any] | None:
    """Return the entry in *line*; None for a line that no program of ours wrote."""
    try:
        entry = json.loads(line)
        known = all(isinstance(each["end"], int) and isinstance(each["start"], int) for each in entry["segments"])
        return entry if known and isinstance(entry["number"], int) and encode(entry) == line else None
    except (ValueError, TypeError, KeyError):
        return None
