"""One thing that a host has to show, and all of them together."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

State = Literal["ok", "short", "measured", "not possible", "not rehearsable", "failed"]
"""*measured*: there is a figure, and nobody is known who says how much it should be. It counts as done, not as ok."""


class Unusable(Exception):
    """A tool's output that is no result; the message says what it is instead."""


@dataclass(frozen=True)
class Figure:
    """What was measured, and the least it has to be."""

    name: str
    value: float
    unit: str
    floor: float | None = None
    source: str = ""
    """Who says so. A floor without anybody behind it judges nothing."""

    @property
    def is_short(self) -> bool:
        return self.floor is not None and bool(self.source) and self.value < self.floor


@dataclass(frozen=True)
class Item:
    """One thing that is looked at."""

    name: str
    state: State
    figures: tuple[Figure, ...] = ()
    said: str = ""
    """What there is to know beside the figures: the way that was taken, what is short, why it was not possible."""


def judged(name: str, figures: Sequence[Figure], short: Sequence[str] = (), said: str = "", fine: bool = False) -> Item:
    """Return an item by its figures.

    Args:
        short: What else is not as it should be.
        said: What to know in any case.
        fine: Something beside the figures was judged and found right, so that without a floor it is ok as well.
    """
    low = [f"{each.name} is below {each.floor:g} {each.unit}" for each in figures if each.is_short]
    judges = fine or any(each.floor is not None and each.source for each in figures)
    state: State = "short" if low or short else "ok" if judges else "measured"
    return Item(name, state, tuple(figures), "; ".join([*short, *low, *([said] if said else [])]))


@dataclass(frozen=True)
class Report:
    """Everything that was looked at on one host."""

    stack: str
    host: str
    items: tuple[Item, ...]

    @property
    def exit_status(self) -> int:
        """0 nothing is short, 1 something is, 4 a step failed, 3 something could not be looked at.

        What the target cannot show is none of these: it is counted by itself.
        """
        states = {item.state for item in self.items}
        return next((status for state, status in _STATUSES.items() if state in states), 0)

    @property
    def counts(self) -> dict[State, int]:
        return dict(Counter(item.state for item in self.items))

    def as_json(self) -> dict[str, Any]:
        """Return it for machines."""
        return {
            "stack": self.stack,
            "host": self.host,
            "exit_status": self.exit_status,
            "counts": self.counts,
            "items": [asdict(item) for item in self.items],
        }


_STATUSES: dict[State, int] = {"short": 1, "failed": 4, "not possible": 3}
