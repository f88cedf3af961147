"""Items of a qualification, with their figures and states, and the report of all items."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from typing_extensions import TypedDict  # pydantic reads no other one on Python 3.11

State = Literal["ok", "short", "measured", "not possible", "not rehearsable", "failed"]
"""State of an item. *measured*: the figure has no published floor; the item counts as done, not as ok."""


class MeasurementFailed(Exception):
    """A measurement gave no result; the message quotes the tool's output."""


@dataclass(frozen=True)
class Figure:
    """A measured value and its floor."""

    name: str
    """Name of the figure."""
    value: float
    """The measured value, in the unit."""
    unit: str
    """Unit of the value and of the floor."""
    floor: float | None = None
    """Smallest good value, in the unit; None if none is known."""
    source: str = ""
    """Publication of the floor; a floor without a source is not judged."""

    @property
    def is_short(self) -> bool:
        return self.floor is not None and bool(self.source) and self.value < self.floor


@dataclass(frozen=True)
class Item:
    """One property of a host that is measured."""

    name: str
    """Name of the item."""
    state: State
    """Result of the item. `measured`: its figures have no published floor, and are not judged."""
    figures: tuple[Figure, ...] = ()
    """Measured values."""
    details: str = ""
    """Information beside the figures: the path that was used, the shortfalls, the reason for a missing result."""


def make_item(
    name: str,
    figures: Sequence[Figure],
    shortfalls: Sequence[str] = (),
    details: str = "",
    other_checks_passed: bool = False,
) -> Item:
    """Return an item whose state follows from its figures and other checks.

    Args:
        shortfalls: Faults beside the figures.
        details: Information that is always shown.
        other_checks_passed: Whether checks beside the figures passed, so that an item without a floor is ok too.
    """
    below_floor = [f"{each.name} is below {each.floor:g} {each.unit}" for each in figures if each.is_short]
    has_verdict = other_checks_passed or any(each.floor is not None and each.source for each in figures)
    state: State = "short" if below_floor or shortfalls else "ok" if has_verdict else "measured"
    return Item(name, state, tuple(figures), "; ".join([*shortfalls, *below_floor, *([details] if details else [])]))


class QualificationData(TypedDict):
    """The measurement of a host: memory, network, GPUs and the paths between them."""

    stack: str
    """Name of the stack."""
    host: str
    """Name of the host."""
    exit_status: int
    """Exit status of the command: 0 no item is short, 1 one is, 3 one could not be measured, 4 one failed."""
    counts: Mapping[State, int]
    """Number of items by state."""
    items: Sequence[Item]
    """All items."""


@dataclass(frozen=True)
class QualificationReport:
    """The report of all items of one host."""

    stack: str
    host: str
    items: tuple[Item, ...]

    @property
    def exit_status(self) -> int:
        """Exit status: 0 no item is short, 1 an item is short, 4 a measurement failed, 3 an item could not be measured.

        Items that are not rehearsable on the target do not change the status; they have a count of their own.
        """
        states = {item.state for item in self.items}
        return next((status for state, status in _STATUSES.items() if state in states), 0)

    @property
    def counts(self) -> dict[State, int]:
        return dict(Counter(item.state for item in self.items))

    def as_json(self) -> QualificationData:
        """Return the report for JSON."""
        return {
            "stack": self.stack,
            "host": self.host,
            "exit_status": self.exit_status,
            "counts": self.counts,
            "items": self.items,
        }


_STATUSES: dict[State, int] = {"short": 1, "failed": 4, "not possible": 3}
