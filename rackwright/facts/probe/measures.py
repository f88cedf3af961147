"""What is measured rather than set: it differs from look to look."""

from __future__ import annotations

from typing import Any

from rackwright.facts.probe.observe import ReadError, attempt, known, tool

REFERENCE, STRATUM, SYSTEM_TIME, LEAP = 0, 2, 4, 13
"""Places in a line of ``chronyc -c tracking``, whose columns are those of the report without -c (chrony: client.c)."""
SYNCHRONISED = ("Normal", "Insert second", "Delete second")
"""States of the leap second of a clock that follows another one (chrony: client.c)."""
OWN_CLOCK = "7F7F0101"
"""The reference of a chronyd that was told to trust its own clock where it has no other (chrony: ntp.h)."""


def measures() -> dict[str, Any]:
    tracking = attempt(chrony)
    return {
        "chrony.offset_seconds": attempt(lambda: offset(known(tracking))),
        "chrony.stratum": attempt(lambda: int(known(tracking)[STRATUM])),
    }


def chrony() -> list[str]:
    """Return what chronyd says about the clock, column by column."""
    printed = tool("chronyc", "-c", "-n", "tracking")
    columns = printed.strip().split(",")
    if len(columns) != LEAP + 1 or not printed.endswith("\n"):
        raise ReadError("what chronyc prints is not its report, or not all of it")
    if columns[LEAP] == "Not synchronised":
        raise ReadError("chronyd is not synchronised")
    if columns[LEAP] not in SYNCHRONISED:
        raise ReadError(f"chronyc tells of a state that is not known: {columns[LEAP]}")
    return columns


def offset(columns: list[str]) -> float:
    """Return how wrong the clock is now, in either direction.

    That is "System time". "Last offset" is what the last measurement found, of which a part has been corrected since.
    Both are zero as well where the clock is compared with nothing but itself.
    """
    if columns[REFERENCE] == OWN_CLOCK:
        raise ReadError("chronyd follows no other clock")
    return abs(float(columns[SYSTEM_TIME]))
