"""The gate of an iteration: a new model is no worse on new rows, and on known data worse by a limited amount only."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
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
LOWER_FLOOR = "Lower --at-least only if so many errors do no harm"
HALF = 0.5
"""Accuracy below which a model is wrong more often than it is right."""


@dataclass(frozen=True)
class Limits:
    """The limits of a new model's accuracy, as shares of 1; all but the floor are against the served model."""

    may_lose: float = 0.01
    """Largest loss on each data set that the served model was trained on."""
    must_gain: float = 0.0
    """Smallest gain on the new data; 0: no loss."""
    at_least: float | None = None
    """Smallest accuracy on the new data, or on questions with choices if there are any; None: no floor."""

    def as_data(self) -> dict[str, float]:
        """Return the limits without an absent floor, which states of earlier versions do not have."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def reach_floor(self, accuracy: float) -> bool:
        """Return whether *accuracy* is high enough, whatever the served model has. It is not if it is NaN."""
        return self.at_least is None or accuracy >= self.at_least - ROUNDING

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
        return
    if not limits.allow(before, after, new):
        yield f"{after:.4f} on {name}, where the served model has {before:.4f}"
    if new and not limits.reach_floor(after):
        yield f"{after:.4f} on {name}, of at least {limits.at_least:g}"


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
        if limits.at_least is not None:
            expected += f", with an accuracy of at least {limits.at_least:g} there"
            help += f". {LOWER_FLOOR}"
        raise AccuracyTooLow(Diagnostic("accuracy", problem, expected, help, "the model is not promoted"))


def floor_warning(accuracy: float | None, on: str, limits: Limits) -> str:
    """Return a warning about a model that is wrong more often than right, if no floor was set; else an empty text.

    Args:
        accuracy: Accuracy of the new model; None before it is known.
        on: Name of the data, or of the questions.
    """
    if accuracy is None or limits.at_least is not None or accuracy >= HALF:
        return ""
    compared = "the gate has only compared the new model with the served one, and no floor was set"
    figure = f"its accuracy on {on} is {accuracy:.4f}, less than one half"
    return f"{compared}: {figure}; --at-least SHARE refuses such a model"
