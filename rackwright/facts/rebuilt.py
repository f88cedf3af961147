"""The comparison of a host's facts before and after a rebuild, and their hash."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from rackwright.facts.compare import MISSING, different_values
from rackwright.facts.facts import Facts

CONTENT = "the content of a drive, which every write changes"
COUNTER = "a counter of the drive"
UUID_TEXT = "the file has the UUID of an array or a filesystem; `texts` compares its text without UUIDs"
VOLATILE: Mapping[tuple[str, ...], str] = {
    ("boot_id",): "the kernel makes one at each start",
    ("taken_at",): "the time of the observation",
    ("finished_at",): "the time of the end of the observation",
    ("clock_offset_seconds",): "a measurement of this moment",
    ("log_chain",): "the chain of the audit log has an entry each hour, and begins again with a new system",
    ("measures",): "results of the last qualification",
    ("readings",): "temperatures, speeds and clocks of this moment",
    ("modules",): "the kernel loads modules when it needs them",
    ("sockets",): "programs open them at any time, on ports that the kernel chooses",
    ("listeners",): "programs open them at any time, on ports that the kernel chooses",
    ("base_programs",): "programs of sockets that are open at this moment",
    ("module_taints",): "the kernel loads modules when it needs them",
    ("accelerator_users",): "processes that use a GPU at this moment",
    ("sysctls", "vm.*_reserve_kbytes"): "the kernel computes it from the memory that is free at its start",
    ("directories", "*", "mtime_ns"): "the time of the last write",
    ("files", "*", "mtime_ns"): "the time of the last write",
    ("files", "/etc/mdadm/mdadm.conf.d/*", "digest"): UUID_TEXT,
    ("files", "/etc/systemd/system/*.mount", "digest"): UUID_TEXT,
    ("units", "*", "load"): "systemd loads units when it needs them",
    ("units", "*", "active"): "timers and sockets start and stop services at any time",
    ("units", "*.device"): "the name has a UUID, or depends on the order of a start",
    ("units", "blockdev@*"): "the name depends on the order of a start",
    ("drives", "*", "sample"): CONTENT,
    ("drives", "*", "witnesses"): CONTENT,
    ("drives", "*", "parts"): CONTENT,
    ("drives", "*", "held"): "unknown while an array uses the drive",
    ("drives", "*", "health"): COUNTER,
    ("drives", "*", "writes"): COUNTER,
    ("drives", "*", "superblock", "events"): "md counts the starts and changes of an array",
}
"""Facts that may differ after a rebuild, by their path, each with its reason. A star is any name, or part of one."""
_PATTERNS: dict[tuple[str, int], list[tuple[str, ...]]] = {}
"""The paths of VOLATILE by their first name and length, since a host has tens of thousands of facts."""
for _pattern in VOLATILE:
    _PATTERNS.setdefault((_pattern[0], len(_pattern)), []).append(_pattern)
KEYS = ("serial", "md_name", "name", "target", "path", "device", "id")
"""Keys that name a row of a list, so that rows are compared by name: their order has no meaning."""
UUID = re.compile(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b|\b[0-9a-f]{8}(:[0-9a-f]{8}){3}\b")
"""A UUID of a filesystem or of an array: each is made at random, so every text is compared without it."""
SHOWN = 120
"""Characters of a value that a difference shows."""


def differences(before: Facts, after: Facts) -> tuple[str, ...]:
    """Return a line for each value that differs: its path, the value before, and the value now."""
    return tuple(
        f"{_text_of(path)}: {_shorten(old)} before, {_shorten(new)} now"
        for path, old, new in different_values((), stable(before), stable(after))
    )


def stable(facts: Facts) -> Any:
    """Return the raw facts without the volatile ones, and with names that do not depend on the order of a start.

    Lists of named rows become mappings by name. A drive's name in the kernel becomes its serial number, an array's
    becomes its md name. UUIDs are left out, except for those of the machine.
    """
    return _stable((), facts.raw, _names(facts.raw))


def count(facts: Facts) -> int:
    """Return the number of known values that a comparison looks at."""
    return sum(not _is_unknown(value) for _, value in _leaves((), stable(facts)))


def unknown_paths(facts: Facts) -> tuple[str, ...]:
    """Return the paths of the values that the probe could not read."""
    return tuple(_text_of(path) for path, value in _leaves((), stable(facts)) if _is_unknown(value))


def digest(facts: Mapping[str, Facts]) -> str:
    """Return a hash of the facts of hosts by name, equal for equal facts: ``sha256:`` and 64 hexadecimal digits.

    The facts contain digests of files with the fleet's key, so the hashes of two projects differ.
    """
    text = json.dumps({host: stable(each) for host, each in facts.items()}, sort_keys=True, separators=(",", ":"))
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def _names(raw: Mapping[str, Any]) -> dict[str, str]:
    """Return stable names of drives and arrays by their names in the kernel, which depend on the order of a start."""
    rows = [(row, key) for part, key in (("drives", "serial"), ("arrays", "md_name")) for row in _rows(raw.get(part))]
    return {row["name"]: row[key] for row, key in rows if isinstance(row.get(key), str) and row[key]}


def _rows(part: Any) -> list[dict[str, Any]]:
    return [row for row in part if isinstance(row, dict)] if isinstance(part, list) else []


def _stable(path: tuple[str, ...], value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, list):
        value = _by_name(value)
    if isinstance(value, list):
        return sorted((_stable(path, row, names) for row in value), key=lambda row: json.dumps(row, sort_keys=True))
    if isinstance(value, Mapping):
        return {
            names.get(key, key): _stable((*path, key), each, names)
            for key, each in value.items()
            if not _is_volatile((*path, key))
        }
    if isinstance(value, str) and path[0] != "identity":
        return UUID.sub("UUID", names.get(value, value))
    return value


def _by_name(rows: Sequence[Any]) -> Any:
    """Return *rows* by the first key that names all of them; unchanged without one."""
    for key in KEYS:
        if rows and all(isinstance(row, Mapping) and isinstance(row.get(key), str) for row in rows):
            names = [row[key] for row in rows]
            if len({*names}) == len(names):
                return dict(zip(names, rows, strict=True))
    return rows


def _is_volatile(path: tuple[str, ...]) -> bool:
    return any(all(map(fnmatchcase, path, pattern)) for pattern in _PATTERNS.get((path[0], len(path)), ()))


def _leaves(path: tuple[str, ...], value: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(value, Mapping) and not _is_unknown(value):
        for key, each in sorted(value.items()):
            yield from _leaves((*path, key), each)
    else:
        yield path, value


def _is_unknown(value: Any) -> bool:
    return isinstance(value, Mapping) and value.keys() == {"unknown"}


def _text_of(path: tuple[str, ...]) -> str:
    return ".".join(path)


def _shorten(value: Any) -> str:
    text = "absent" if value is MISSING else json.dumps(value, sort_keys=True)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."
