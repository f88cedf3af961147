"""Progress of long work, one line at a time."""

from math import ceil
from typing import Protocol


class Progress(Protocol):
    """Receives one line about the work that goes on."""

    def __call__(self, line: str, /) -> None: ...


def format_remaining(done: float, total: float, seconds: float) -> str:
    """Return the estimate of the time that is left, such as ``, about 3 min left``; empty if nothing is done yet.

    Args:
        seconds: Seconds that the part that is *done* of *total* took; the rest is taken to need as long.
    """
    return f", about {ceil(seconds / done * (total - done) / 60)} min left" if done > 0 and seconds > 0 else ""


def ignore(line: str) -> None:
    """Forget the line."""
