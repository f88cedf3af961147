"""The control groups of systemd that are frozen, or whose limits are not those of their units."""

from __future__ import annotations

import os
from typing import Iterator

from rackwright.facts.probe.observe import ReadError, listing, read
from rackwright.facts.probe.unit_properties import GROUP, GROUP_UNITS, OF_PODS, amount, first, format_limit

GROUPS = "/sys/fs/cgroup"
MOST_GROUPS = 4096
DEEPEST = 6
PAGE = 4096


def group_limits(root: str, listed: list[dict[str, list[str]]]) -> dict[str, list[str]]:
    """Return the control groups of systemd that are frozen, or whose limits are not those of their units."""
    by_group = {first(values, "ControlGroup"): values for values in listed}
    rows: dict[str, list[str]] = {}
    for group in groups(root):
        found = list(group_differences(f"{root}{top_of(root)}{group}", by_group.get(group)))
        if found:
            rows[group] = found
    return rows


def top_of(root: str) -> str:
    """Return where the groups of version 2 are; a host of the earlier version has them for systemd alone, or not."""
    unified = f"{GROUPS}/unified"
    return unified if os.path.isdir(root + unified) else GROUPS


def groups(root: str) -> list[str]:
    """Return the control groups of slices, services and scopes, each as systemd names it."""
    top = root + top_of(root)
    found: list[str] = []
    waiting = [""]
    while waiting:
        group = waiting.pop()
        found += [group] if group else []  # the group of all is not one of systemd
        if len(found) > MOST_GROUPS:
            raise ReadError(f"more than {MOST_GROUPS} control groups")
        if group.count("/") < DEEPEST and not group.endswith((".service", ".scope")):
            names = listing(top + group)
            waiting += [
                f"{group}/{name}" for name in names if name.endswith(GROUP_UNITS) and not name.startswith(OF_PODS)
            ]
    return sorted(found)


def group_differences(folder: str, values: dict[str, list[str]] | None) -> Iterator[str]:
    """Yield what holds the processes of a group back, and is not in the unit; *values* are those of the unit."""
    try:
        events = read(f"{folder}/cgroup.events").split()
        if "frozen" in events and events[events.index("frozen") + 1] == "1":
            yield "frozen"
        for file, key in (("memory.max", "MemoryMax"), ("memory.high", "MemoryHigh"), ("pids.max", "TasksMax")):
            yield from one_limit(folder, file, key, values)
        quota = text_of(f"{folder}/cpu.max")
        if quota and quota.split()[0] != "max" and (values is None or first(values, GROUP[3]) in ("infinity", "")):
            yield f"cpu.max is {quota}, and the unit has no limit"
        for file in ("io.max", "io.latency"):
            lines = text_of(f"{folder}/{file}").splitlines()
            keys = GROUP[5:9] if file == "io.max" else GROUP[9:]
            is_declared = values is not None and any(first(values, key) for key in keys)
            if lines and not is_declared:
                yield f"{file} is {lines[0]}, and the unit has no limit"
    except OSError:
        return  # the group has just gone


def text_of(path: str) -> str:
    """Return the text of a file; empty for one that the group does not have, as its controller is off."""
    try:
        return read(path)
    except FileNotFoundError:
        return ""


def one_limit(folder: str, file: str, key: str, values: dict[str, list[str]] | None) -> Iterator[str]:
    text = text_of(f"{folder}/{file}")
    if not text or (values is None and file == "pids.max"):
        return
    found = amount(text)
    wanted = amount(first(values, key) or "infinity") if values is not None else float("inf")
    is_rounded = file.startswith("memory") and float("inf") not in (found, wanted) and abs(found - wanted) < PAGE
    if found != wanted and not is_rounded:
        yield f"{file} is {format_limit(found)}, and {format_limit(wanted)} in the unit"
