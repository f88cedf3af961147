"""The program that writes metrics of drives, arrays and scrubs into a file of node_exporter; a timer starts it."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rackwright.facts.metrics_text import Sample, collect, is_unknown, number_of, rows_of, table_of, to_text, write_file
from rackwright.facts.probe import arrays, block, encryption, health
from rackwright.facts.probe.isolate import isolate
from rackwright.facts.probe.observe import attempt, listing

PATH = "/var/lib/prometheus/node-exporter/rackwright_drives.prom"
STAMPS = "/var/lib/systemd/timers"
"""Folder in which systemd notes the last start of persistent timers, as the time of a file."""
STAMP = re.compile(r"stamp-scrub-(.+)\.timer")
DRIVES_MAX = 256
SECONDS = 120
PASSES = ("recover", "resync", "reshape")
"""Words of md for a pass that writes to members."""
UNWRITABLE = ("readonly", "broken")
"""States of an array that takes no writes; `read-auto` ends with the first write. Source: md(4)."""
COUNTS = ("pending_sectors", "media_errors", "wear_percent")


def write(path: str = PATH) -> None:
    """Write the metrics of all drives."""
    facts = isolate("drives", read, "", seconds=SECONDS)
    write_file(path, to_text(samples(facts if "drives" in facts else {}, time.time())))


def read(root: str) -> dict[str, Any]:
    """Return health of drives, arrays, open mappings of LUKS, and times of scrubs."""
    machine = block.BlockDevices(root)
    return {
        "drives": [drive(machine, name) for name in machine.drives[:DRIVES_MAX]],
        "arrays": attempt(arrays.arrays, machine),
        "mappings": attempt(encryption.mappings, machine),
        "scrubs": attempt(scrubs, root),
    }


def drive(machine: block.BlockDevices, name: str) -> dict[str, Any]:
    return {
        "name": name,
        "serial": attempt(block.serial, machine, name),
        "health": attempt(health.health, machine.path(name)),
        "temperature_celsius": attempt(health.temperature, machine.path(name)),
    }


def scrubs(root: str) -> dict[str, float]:
    """Return the time of the last scrub of each tier, or of the begin of its timer, in seconds since 1970."""
    found = ((STAMP.fullmatch(name), name) for name in listing(root + STAMPS))
    return {match[1]: Path(f"{root}{STAMPS}/{name}").stat().st_mtime for match, name in found if match}


def samples(facts: dict[str, Any], now: float) -> Iterator[Sample]:
    """Yield the samples of a reading; a value that could not be read has none.

    Args:
        facts: The answer of `read`; without drives if there is none.
        now: Time of the reading, in seconds since 1970.
    """
    yield "rackwright_drives_read", {}, float("drives" in facts)
    yield "rackwright_drives_timestamp_seconds", {}, round(now, 3)
    for sort, reader in (("drives", _of_drive), ("arrays", _of_array), ("mappings", _of_mapping)):
        yield from collect(reader, ((row,) for row in rows_of(facts, sort)))
    times = table_of(facts, "scrubs")
    for tier in times:
        if (at := number_of(times, tier)) is not None:
            yield "rackwright_scrub_timestamp_seconds", {"tier": tier}, at


def _of_drive(row: dict[str, Any]) -> Iterator[Sample]:
    labels = {"device": row["name"], **({"serial": row["serial"]} if isinstance(row["serial"], str) else {})}
    state = row["health"]
    yield "rackwright_drive_health_unknown", labels, float(is_unknown(state))
    if isinstance(state.get("passed"), bool):
        yield "rackwright_drive_failing", labels, float(not state["passed"])
    for name, place in {**dict.fromkeys(COUNTS, state), "temperature_celsius": row}.items():
        if (value := number_of(place, name)) is not None:
            yield f"rackwright_drive_{name}", labels, value


def _of_array(row: dict[str, Any]) -> Iterator[Sample]:
    labels = {"device": row["name"], **({"array": row["md_name"]} if isinstance(row["md_name"], str) else {})}
    for name, key in (("members_missing", "degraded"), ("mismatches", "mismatch_count")):
        if (value := number_of(row, key)) is not None:
            yield f"rackwright_array_{name}", labels, value
    if isinstance(row["array_state"], str):
        yield "rackwright_array_unwritable", labels, float(row["array_state"] in UNWRITABLE)
    action, done = row["sync_action"], re.fullmatch(r"(\d+) / ([1-9]\d*)", str(row["sync_completed"]))
    if action in PASSES and done:
        yield "rackwright_array_rebuild_percent", labels, 100 * int(done[1]) / int(done[2])
    begin = number_of(row, "sync_min")
    if isinstance(action, str) and begin is not None:
        yield "rackwright_array_scrub_incomplete", labels, float(action == "idle" and begin > 0)


def _of_mapping(row: dict[str, Any]) -> Iterator[Sample]:
    if isinstance(row["mapped_name"], str):
        yield "rackwright_luks_open", {"name": row["mapped_name"]}, 1.0
