"""Items of a qualification, with their figures and states, and the report of all items."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

State = Literal["ok", "short", "measured", "not possible", "not rehearsable", "failed"]
"""State of an item. *measured*: the figure has no published floor; the item counts as done, not as ok."""


class MeasurementFailed(Exception):
    """A measurement gave no result; the message quotes the tool's output."""


@dataclass(frozen=True)
class Figure:
    """A measured value and its floor."""

    name: str
    value: float
    unit: str
    floor: float | None = None
    source: str = ""
    """Publication of the floor; a floor without a source is not judged."""

    @property
    def is_short(self) -> bool:
        return self.floor is not None and bool(self.source) and self.value < self.floor


@dataclass(frozen=True)
class Item:
    """One property of a host that is measured."""

    name: str
    state: State
    figures: tuple[Figure, ...] = ()
    details: str = ""
    """Information beside the figures: the path that was used, the shortfalls, the reason for a missing result."""

    def as_json(self) -> dict[str, Any]:
        """Return the item for JSON, in which the details have the key `said`."""
        values = asdict(self)
        return {**{key: value for key, value in values.items() if key != "details"}, "said": values["details"]}


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

    def as_json(self) -> dict[str, Any]:
        """Return the report for JSON."""
        return {
            "stack": self.stack,
            "host": self.host,
            "exit_status": self.exit_status,
            "counts": self.counts,
            "items": [item.as_json() for item in self.items],
        }


_STATUSES: dict[State, int] = {"short": 1, "failed": 4, "not possible": 3}
