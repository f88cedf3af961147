"""The record of a server's accuracy on its canary, and the decision to roll back.

A switch of releases writes the record, and `python -m workloads.serving.watch` from then on; /metrics and the probe
read it.
"""

from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

NAME = "watch.json"
DAY = 86400


class _ForwardCompatible(BaseModel):
    """A file that one release's code writes and another's reads: unknown fields are ignored."""

    model_config = ConfigDict(frozen=True)


class AccuracyReading(_ForwardCompatible):
    """One measurement."""

    at: int
    """Time of the measurement, in seconds since 1970, by the host's clock."""
    release: str
    version: str
    rows: str
    """Name of the file with the canary's rows; results on different files are not compared."""
    accuracy: float
    """The share of rows that were correct."""


class AccuracyRecord(_ForwardCompatible):
    """The record of a server's accuracy."""

    every_seconds: int = 0
    """Seconds between two measurements; 0: not recorded yet."""
    change: float = 1
    """The largest change of the accuracy within a day that is not reported."""
    least: float = 0
    """The share of correct rows that is required."""
    found: AccuracyReading | None = None
    """The last measurement that succeeded."""
    before: AccuracyReading | None = None
    """The measurement that `found` is compared with: a day older, or the oldest one if none is."""
    why_not: str | None = None
    """Why the last measurement failed; None: it succeeded."""
    readings: tuple[AccuracyReading, ...] = ()
    """Measurements of the last day, and the last one before that; oldest first."""

    @property
    def drift(self) -> float | None:
        """The change of the accuracy since `before`; None if there is nothing to compare with."""
        # rounded, because the float difference of 0.97 and 0.95 is more than 0.02
        return round(self.found.accuracy - self.before.accuracy, 9) if self.found and self.before else None

    @property
    def has_drifted(self) -> bool:
        return self.drift is not None and abs(self.drift) > self.change

    @property
    def is_low(self) -> bool:
        return self.found is not None and self.found.accuracy < self.least


def read(path: Path) -> AccuracyRecord:
    """Return the record in the file *path*; an empty record if the file is missing or invalid."""
    try:
        return AccuracyRecord.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return AccuracyRecord()


def with_reading(record: AccuracyRecord, found: AccuracyReading, least: float) -> AccuracyRecord:
    """Return *record* with the new measurement *found*; *least* is the required share."""
    # after a clock was set back, readings from its future are no history
    earlier = sorted((each for each in record.readings if found.at - 2 * DAY < each.at < found.at), key=_at)
    day_old = {each.rows: each for each in earlier if each.at <= found.at - DAY}  # the last of each file of rows
    readings = (*day_old.values(), *(each for each in earlier if each.at > found.at - DAY))
    before = next((each for each in readings if each.rows == found.rows), None)
    return record.model_copy(
        update={"least": least, "found": found, "before": before, "why_not": None, "readings": (*readings, found)}
    )


def _at(reading: AccuracyReading) -> int:
    return reading.at


class PreviousRelease(NamedTuple):
    """The release that served before the current one."""

    release: str | None
    """The release's name; None: there is no previous release."""
    is_installed: bool
    """Whether the release and its model are still on the host."""
    has_canary: bool
    """Whether the release has a canary."""
    rejected_release: str | None
    """The release that was last tried on this host and did not serve."""


def choose_rollback(record: AccuracyRecord, roll_back: bool, previous: PreviousRelease) -> tuple[str | None, str]:
    """Return the release to roll back to, or None, and the reason why there is no rollback."""
    if record.found is None or not record.is_low:
        return None, ""
    if not roll_back:
        return None, "roll_back is not declared; the current release keeps serving"
    name = f"the previous release {previous.release}"
    if previous.release in (None, record.found.release):
        return None, "no previous release is known to be right; the current release keeps serving"
    if previous.release == previous.rejected_release:
        return None, f"{name} was refused on this host; the current release keeps serving"
    if not previous.is_installed:
        return None, f"{name} is no longer on this host; the current release keeps serving"
    if not previous.has_canary:
        return None, f"{name} has no canary, so its accuracy is unknown; the current release keeps serving"
    return previous.release, ""
