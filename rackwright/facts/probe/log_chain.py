"""The check of a host's audit log against its hash chain."""

from __future__ import annotations

import fcntl
import re
from typing import Any, Iterator

from rackwright.facts.digest import CHAIN_HASH_LETTERS
from rackwright.facts.probe.log_segments import (
    CHAIN,
    FOLDER,
    MIB,
    NO_HASH,
    LogFile,
    digest,
    hash_of,
    hash_of_bytes,
    log_files,
    parse,
    rotation,
    summary,
)
from rackwright.facts.probe.observe import ReadError

CHAIN_BYTES = 64 * MIB
"""Maximum size of the chain: an entry each hour for more than ten years."""
SHOWN_HASHES = 1000
"""Number of hashes in the facts: those of six weeks, if each hour has new lines."""
SHOWN_BREAKS = 20
SEARCHED_BYTES = MIB
"""Bytes behind a changed segment in which its last line is searched."""
NUMBER, PREVIOUS = re.compile(rb'"number":(\d{1,15}),'), re.compile(rb'"previous":"([0-9a-f]{64})"')


def log_chain(root: str) -> dict[str, Any] | None:
    """Return the newest hashes of the chain, and the places at which the log differs from it; None without a chain."""
    try:
        with open(root + CHAIN, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH)  # until a new entry is on the drive: a power cut takes no seen entry then
            content = file.read(CHAIN_BYTES)
    except FileNotFoundError:
        return None
    lines = content.split(b"\n")[:-1]
    last = parse(lines[-1]) if lines else None
    if last is None:
        raise ReadError(f"the last line of {CHAIN} is no entry")
    hashes = [hash_of(line) for line in lines]
    breaks = [*_chain_breaks(lines, hashes), *_log_breaks(root, lines)]
    shown = hashes[-SHOWN_HASHES:]
    return {
        "id": last["chain"],
        "number": last["number"],
        "time": last["time"],
        "hashes": "".join(hash[:CHAIN_HASH_LETTERS] for hash in shown),
        "breaks": breaks[:SHOWN_BREAKS],
    }


def _break(sort: str, number: int | None, place: str) -> dict[str, Any]:
    return {"sort": sort, "number": number, "place": place}


def _chain_breaks(lines: list[bytes], hashes: list[str]) -> Iterator[dict[str, Any]]:
    """Yield the entries that do not continue the one before."""
    expected, previous = 0, NO_HASH
    for line, hash in zip(lines, hashes):
        found, link = NUMBER.search(line), PREVIOUS.search(line)
        number = int(found[1]) if found else expected
        if number != expected:
            yield _break("deleted" if number > expected else "swapped", expected, f"{CHAIN}, before entry {number}")
        elif link is None or link[1].decode() != previous:
            yield _break("edited", max(0, number - 1), CHAIN)
        expected, previous = number + 1, hash


def _log_breaks(root: str, lines: list[bytes]) -> Iterator[dict[str, Any]]:
    """Yield the places of the log that differ from the chain."""
    kept, limit_mib = rotation(root)
    files = log_files(root)
    try:
        groups = _groups(lines, len(files) + kept)
        matched = _match(groups, files)
        yield from _missing(groups, matched, len(files))
        yield from _order(groups, matched, files)
        for first, file in matched.items():
            yield from _segment_breaks(file, groups[first])
        by_path = {file.path: groups[first] for first, file in matched.items()}
        for file in files:
            if file.is_rotated and _is_early(file.size, by_path.get(file.path, []), limit_mib):
                yield _break("rotated", _newest(by_path.get(file.path, [])), f"{file.path}, of {file.size} bytes")
    finally:
        for file in files:
            file.close()


def _groups(lines: list[bytes], most: int) -> dict[str, list[dict[str, Any]]]:
    """Return the segments of the newest *most* files with their entries, the oldest first, by the file's first line."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for line in reversed(lines):
        entry = parse(line)
        for each in reversed(entry["segments"] if entry else []):
            if each["first"] not in groups and len(groups) == most:
                return {first: groups[first][::-1] for first in reversed(groups)}
            groups.setdefault(each["first"], []).append({**(entry or {}), **each})
    return {first: groups[first][::-1] for first in reversed(groups)}


def _match(groups: dict[str, list[dict[str, Any]]], files: list[LogFile]) -> dict[str, LogFile]:
    """Return the file of each group that has one: that with its first line, or else the one that stands in its place.

    An inode alone identifies no file: the kernel uses that of a deleted file again.
    """
    matched = {file.first: file for file in files if file.first in groups}
    order = [*groups]
    places: dict[str, LogFile] = {}
    for number, first in enumerate(order):
        if first in matched:
            continue
        near = [files.index(matched[each]) - 1 for each in order[number + 1 : number + 2] if each in matched]
        near += [files.index(matched[each]) + 1 for each in order[max(0, number - 1) : number] if each in matched]
        if not matched and files and files[-1].inode == groups[first][-1]["inode"]:
            near = [len(files) - 1] if len(files) < groups[first][-1]["kept_files"] else []
        for place in near:
            if 0 <= place < len(files) and files[place].size and files[place].first not in groups:
                places[first] = files[place]
    return {first: matched.get(first) or places[first] for first in groups if first in matched or first in places}


def _missing(
    groups: dict[str, list[dict[str, Any]]], matched: dict[str, LogFile], files: int
) -> Iterator[dict[str, Any]]:
    """Yield the files that are missing, unless auditd deleted them as the oldest of more than it keeps."""
    for number, (first, segments) in enumerate(groups.items()):
        if first in matched:
            continue
        is_oldest = not any(older in matched for older in [*groups][:number])
        last = segments[-1]
        place = f"{FOLDER}, a file of {last['end']} bytes or more, until {last['time']}"
        if not is_oldest or files < last["kept_files"]:
            yield _break("deleted", last["number"], place)
        elif _is_early(last["end"], segments, last["limit_mib"]):
            yield _break("rotated", last["number"], place)


def _order(
    groups: dict[str, list[dict[str, Any]]], matched: dict[str, LogFile], files: list[LogFile]
) -> Iterator[dict[str, Any]]:
    """Yield the files whose numbers are in another order than they were written."""
    positions = [(files.index(file), file, first) for first, file in matched.items()]
    for (before, _, _), (position, file, first) in zip(positions, positions[1:]):
        if position < before:
            yield _break("swapped", groups[first][-1]["number"], file.path)


def _is_early(size: int, segments: list[dict[str, Any]], limit_mib: int) -> bool:
    """Return whether a file of *size* bytes was ended before the size that was set then, or before its last lines
    were recorded. A file from before the chain may have had another limit.
    """
    limit = min((each["limit_mib"] for each in segments), default=limit_mib)
    return size < limit * MIB and not (segments and segments[0]["number"] == 0)


def _newest(segments: list[dict[str, Any]]) -> int | None:
    return segments[-1]["number"] if segments else None


def _segment_breaks(file: LogFile, segments: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the segments of *file* that are not as they were recorded, with the sort of the change."""
    shift = 0
    for each in segments:
        start, end = each["start"] + shift, each["end"] + shift
        if file.size >= end and hash_of_bytes(file, start, end) == each["hash"]:
            continue
        content = b"".join(file.parts(start, end + SEARCHED_BYTES))
        found = _end_of_line(content, each["last"])
        body = content[: end - start if found is None else found]
        sort = _sort(summary(body), each, found is None and start + len(body) >= file.size)
        yield _break(sort, each["number"], f"{file.path}, the lines before {each['time']}")
        if found is not None:
            shift += len(body) - (end - start)


def _end_of_line(content: bytes, last: str) -> int | None:
    """Return the position after the line with the digest *last*; None if no line has it."""
    position = 0
    for line in content.split(b"\n")[:-1]:
        position += len(line) + 1
        if digest(line) == last:
            return position
    return None


def _sort(present: dict[str, Any], recorded: dict[str, Any], at_end: bool) -> str:
    if present["lines"] < recorded["lines"]:
        return "truncated" if at_end else "deleted"
    if present["lines"] > recorded["lines"]:
        return "inserted"
    return "swapped" if present["sum"] == recorded["sum"] else "edited"
