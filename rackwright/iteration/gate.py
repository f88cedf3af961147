"""The gate of an iteration: a new model is no worse on new rows, and on known data worse by a limited amount only."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rackwright.errors import Diagnostic, UserError

LEAST_ROWS = 8
"""Smallest number of rows for a verdict. Quantising has the same minimum."""
ROUNDING = 1e-9
"""Rounding error of a difference of floats."""


class AccuracyTooLow(UserError):
    """A new model is not accurate enough to replace the served one."""

    exit_status = 1


def shortfalls(comparisons: Sequence[Mapping[str, Any]], may_lose: float) -> list[str]:
    """Return a text for each data set on which the new model falls short; the new rows come first."""
    return [text for number, each in enumerate(comparisons) for text in _shortfall(each, number == 0, may_lose)]


def data_name(comparison: Mapping[str, Any], new: bool) -> str:
    return "new rows" if new else str(comparison["data"])


def _shortfall(each: Mapping[str, Any], new: bool, may_lose: float) -> Iterator[str]:
    name, before, after = data_name(each, new), each["before"], each["after"]
    if each["rows"] < LEAST_ROWS or before is None or after is None:
        yield f"{each['rows']} {name}, of at least {LEAST_ROWS}" if new else f"{each['rows']} rows of {name}"
    elif not after >= before - (0.0 if new else may_lose) - ROUNDING:
        yield f"{after:.4f} on {name}, where the served model has {before:.4f}"


def worse_than_parent(scores: Sequence[Mapping[str, Any]], may_lose: float) -> list[str]:
    """Return a text for each of a training's *scores* that is lower than its parent's by more than *may_lose*."""
    return [
        f"{each['accuracy']:.4f} on {data_name(each, number == 0)}, where its parent has"
        f" {each['parent']['accuracy']:.4f}"
        for number, each in enumerate(scores)
        if each["accuracy"] < each["parent"]["accuracy"] - may_lose - ROUNDING
    ]


def refuse_shortfalls(shortfalls: Sequence[str], may_lose: float, help: str, new: str = "new rows") -> None:
    """Raise if there are any *shortfalls*.

    Args:
        new: Name of the new data.

    Raises:
        AccuracyTooLow: With both figures of each shortfall.
    """
    if shortfalls:
        problem = f"the new model falls short: {'; and '.join(shortfalls)}"
        expected = f"a loss of at most {may_lose:g} on known data, and none on {new}"
        raise AccuracyTooLow(Diagnostic("accuracy", problem, expected, help, "the model is not promoted"))
