"""How many of its canary's rows a host's server has right, time after time: what is noted, and what follows from it.

Who lets a release serve notes it, and `python -m workloads.serving.watch` from then on; /metrics and the probe read it.
"""

from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

NAME = "watch.json"
DAY = 86400


class _Lasting(BaseModel):
    """Written by one release's code, read by another's: what a reader does not know is left out."""

    model_config = ConfigDict(frozen=True)


class Reading(_Lasting):
    """One look."""

    at: int
    """Seconds since 1970, by the host's clock."""
    release: str
    version: str
    rows: str
    """Name of the file that has them: what other rows say is not compared."""
    accuracy: float
    """The share that was right."""


class Noted(_Lasting):
    """What is known."""

    every_seconds: int = 0
    """How often somebody is to look; 0: nobody has noted it."""
    change: float = 1
    """By how much the accuracy may have moved within a day."""
    least: float = 0
    """The share that has to be right."""
    found: Reading | None = None
    """The last look that came to something."""
    before: Reading | None = None
    """What `found` is held against: a day older, or the oldest where there is none."""
    why_not: str | None = None
    """Why the last look came to nothing; None: it did come to something."""
    readings: tuple[Reading, ...] = ()
    """Of the last day, and the one before that; oldest first."""

    @property
    def moved_by(self) -> float | None:
        """By how much the accuracy is another than before; None where there is nothing to hold it against."""
        # a share has no more digits than rows: without that 0.97 would have moved by more than 0.02 from 0.95
        return round(self.found.accuracy - self.before.accuracy, 9) if self.found and self.before else None

    @property
    def moved(self) -> bool:
        return self.moved_by is not None and abs(self.moved_by) > self.change

    @property
    def low(self) -> bool:
        return self.found is not None and self.found.accuracy < self.least


def read(path: Path) -> Noted:
    """Return what the file *path* says; of one that is not there, or is none, nothing is known."""
    try:
        return Noted.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return Noted()


def with_reading(noted: Noted, found: Reading, least: float) -> Noted:
    """Return *noted* with one more look; *least* is the share that has to be right."""
    # what a clock says that was put back since is later than now, and no history
    earlier = sorted((each for each in noted.readings if found.at - 2 * DAY < each.at < found.at), key=_at)
    day_old = {each.rows: each for each in earlier if each.at <= found.at - DAY}  # the last of each rows
    kept = (*day_old.values(), *(each for each in earlier if each.at > found.at - DAY))
    before = next((each for each in kept if each.rows == found.rows), None)
    return noted.model_copy(
        update={"least": least, "found": found, "before": before, "why_not": None, "readings": (*kept, found)}
    )


def _at(reading: Reading) -> int:
    return reading.at


class Former(NamedTuple):
    """The release that served before, and what is known of it."""

    release: str | None
    """None: there is none."""
    there: bool
    """It and its model are on the host still."""
    judged: bool
    """It has a canary."""
    refused: str | None
    """The release that was last tried here and did not serve."""


def way_back(noted: Noted, roll_back: bool, former: Former) -> tuple[str | None, str]:
    """Return the release that serves in the place of one that is not right any more, or None, and why not."""
    if noted.found is None or not noted.low:
        return None, ""
    if not roll_back:
        return None, "roll_back is not declared, and it goes on serving"
    name = f"release {former.release}, which ran before,"
    if former.release in (None, noted.found.release):
        return None, "nothing that ran before it is known to be right, and it goes on serving"
    if former.release == former.refused:
        return None, f"{name} has been refused here, and this one goes on serving"
    if not former.there:
        return None, f"{name} is not there any more, and this one goes on serving"
    if not former.judged:
        return None, f"{name} has no canary, so that nothing says that it is right; this one goes on serving"
    return former.release, ""
