"""Measured values, which differ from one observation to the next."""

from __future__ import annotations

import os
from typing import Any

from rackwright.facts.probe import kubernetes
from rackwright.facts.probe.observe import ReadError, attempt, run_tool, unwrap

REFERENCE, STRATUM, SYSTEM_TIME, LEAP = 0, 2, 4, 13
"""Columns of ``chronyc -c tracking``, which are those of the report without -c (chrony: client.c)."""
SYNCHRONISED = ("Normal", "Insert second", "Delete second")
"""Leap second states of a synchronised clock (chrony: client.c)."""
OWN_CLOCK = "7F7F0101"
"""Reference id of a chronyd that is configured to fall back to its own clock (chrony: ntp.h)."""


def measures() -> dict[str, Any]:
    tracking = attempt(chrony)
    values = {
        "chrony.offset_seconds": attempt(lambda: offset(unwrap(tracking))),
        "chrony.stratum": attempt(lambda: int(unwrap(tracking)[STRATUM])),
    }
    if os.path.exists(kubernetes.SETTINGS):
        values["kubernetes.snapshot_age_hours"] = attempt(kubernetes.snapshot_age_hours)
    return values


def chrony() -> list[str]:
    """Return chronyd's report about the clock, by column."""
    output = run_tool("chronyc", "-c", "-n", "tracking")
    columns = output.strip().split(",")
    if len(columns) != LEAP + 1 or not output.endswith("\n"):
        raise ReadError("the output of chronyc is not its report, or incomplete")
    if columns[LEAP] == "Not synchronised":
        raise ReadError("chronyd is not synchronised")
    if columns[LEAP] not in SYNCHRONISED:
        raise ReadError(f"chronyc reports an unknown state: {columns[LEAP]}")
    return columns


def offset(columns: list[str]) -> float:
    """Return the current error of the clock in seconds, without its sign.

    The value is chrony's "System time". "Last offset" is the last measurement, of which a part is corrected since.
    Both are also zero for a clock that is compared only with itself.
    """
    if columns[REFERENCE] == OWN_CLOCK:
        raise ReadError("chronyd has no other clock as its reference")
    return abs(float(columns[SYSTEM_TIME]))
