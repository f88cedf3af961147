"""The program that records new lines of the audit log in the chain; a timer of the host starts it."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from typing import Any

from rackwright.facts.probe.log_segments import CHAIN, NO_HASH, encode, hash_of, log_files, parse, rotation, segment


def append(root: str = "") -> None:
    """Append an entry, and wait until it is on the drive; do nothing if the log has no new lines.

    Args:
        root: Directory with the files of the system; empty for this system.
    """
    path = Path(root + CHAIN)
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "r+b") as chain:
        fcntl.flock(chain, fcntl.LOCK_EX)
        lines = chain.read().split(b"\n")
        fragment = lines.pop()  # of a program that was killed while it wrote: no probe has seen its hash
        entries = [parse(line) for line in lines]
        segments = _new_segments(root, [entry for entry in entries if entry])
        if not segments and lines:
            return
        kept, limit_mib = rotation(root)
        last = entries[-1] if entries else None
        entry = {
            "chain": last["chain"] if last else os.urandom(16).hex(),
            "number": last["number"] + 1 if last else len(lines),
            "previous": hash_of(lines[-1]) if lines else NO_HASH,
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "kept_files": kept,
            "limit_mib": limit_mib,
            "segments": segments,
        }
        chain.seek(-len(fragment), os.SEEK_END)
        chain.truncate()
        chain.write(encode(entry) + b"\n")
        chain.flush()
        os.fsync(chain.fileno())


def _new_segments(root: str, entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the segments that no entry covers, the oldest first."""
    ends = {each["first"]: each["end"] for entry in entries for each in entry["segments"]}
    segments = []
    for file in log_files(root):
        start, end = ends.get(file.first, 0), file.complete_end()
        if start < end:
            file.sync()
            segments.append(segment(file, start, end))
        file.close()
    return segments
