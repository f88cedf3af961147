"""The gate of an iteration: a new model is no worse on new rows, and on known data worse by a limited amount only."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rackwright.errors import Diagnostic, UserError

LEAST_ROWS = 8
"""Smallest number of rows for a verdict. Quantising has the same minimum."""
HELP = (
    "Add more {}, train longer or at another rate (--set tune.steps=…, --set tune.optimizer.learning_rate=…), replay"
    " more old data (--set tune.fine_tuning.replay=0.7), or raise --may-lose, which is for old data alone"
)
ROUNDING = 1e-9
"""Rounding error of a difference of floats."""


@dataclass(frozen=True)
class Limits:
    """The change of accuracy that a new model may and must have against the served one, as shares of 1."""

    may_lose: float = 0.01
    """Largest loss on each data set that the served model was trained on."""
    must_gain: float = 0.0
    """Smallest gain on the new data; 0: no loss."""

    def allow(self, before: float, after: float, new: bool) -> bool:
        """Return whether the accuracy may be *after* where it was *before*. It may not if a figure is NaN."""
        return after >= before + (self.must_gain if new else -self.may_lose) - ROUNDING


class AccuracyTooLow(UserError):
    """A new model is not accurate enough to replace the served one."""

    exit_status = 1


def shortfalls(comparisons: Sequence[Mapping[str, Any]], limits: Limits) -> list[str]:
    """Return a text for each data set on which the new model falls short; the new rows come first."""
    return [text for number, each in enumerate(comparisons) for text in _shortfall(each, number == 0, limits)]


def data_name(comparison: Mapping[str, Any], new: bool) -> str:
    return "new rows" if new else str(comparison["data"])


def _shortfall(each: Mapping[str, Any], new: bool, limits: Limits) -> Iterator[str]:
    name, before, after = data_name(each, new), each["before"], each["after"]
    if each["rows"] < LEAST_ROWS or before is None or after is None:
        yield f"{each['rows']} {name}, of at least {LEAST_ROWS}" if new else f"{each['rows']} rows of {name}"
    elif not limits.allow(before, after, new):
        yield f"{after:.4f} on {name}, where the served model has {before:.4f}"


def worse_than_parent(scores: Sequence[Mapping[str, Any]], may_lose: float) -> list[str]:
    """Return a text for each of a training's *scores* that is lower than its parent's by more than *may_lose*."""
    return [
        f"{each['accuracy']:.4f} on {data_name(each, number == 0)}, where its parent has"
        f" {each['parent']['accuracy']:.4f}"
        for number, each in enumerate(scores)
        if each["accuracy"] < each["parent"]["accuracy"] - may_lose - ROUNDING
    ]


def refuse_shortfalls(shortfalls: Sequence[str], limits: Limits, help: str, new: str = "new rows") -> None:
    """Raise if there are any *shortfalls*.

    Args:
        new: Name of the new data.

    Raises:
        AccuracyTooLow: With both figures of each shortfall.
    """
    if shortfalls:
        problem = f"the new model falls short: {'; and '.join(shortfalls)}"
        gain = f"a gain of at least {limits.must_gain:g}" if limits.must_gain else "none"
        expected = f"a loss of at most {limits.may_lose:g} on known data, and {gain} on {new}"
        raise AccuracyTooLow(Diagnostic("accuracy", problem, expected, help, "the model is not promoted"))
