"""Whether a model may take the place of another: never worse on new rows, on known ones by no more than is allowed."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rackwright.errors import RackwrightError

LEAST_ROWS = 8
"""Fewer judge nothing; quantising asks for as many."""
_ROUNDING = 1e-9
"""Of a difference of floats."""


class NotGoodEnough(RackwrightError):
    """A model that does not take the place of the one that is served."""

    exit_status = 1


def shortfalls(compared: Sequence[Mapping[str, Any]], may_lose: float) -> list[str]:
    """Return in words what *compared* lacks: that of the new rows first, then that of those known already."""
    return [text for number, each in enumerate(compared) for text in _short(each, number == 0, may_lose)]


def name_of(compared: Mapping[str, Any], new: bool) -> str:
    return "new rows" if new else str(compared["data"])


def _short(each: Mapping[str, Any], new: bool, may_lose: float) -> Iterator[str]:
    name, before, after = name_of(each, new), each["before"], each["after"]
    if each["rows"] < LEAST_ROWS or before is None or after is None:
        yield f"{each['rows']} {name} judge, at least {LEAST_ROWS}" if new else f"{each['rows']} rows of {name} judge"
    elif not after >= before - (0.0 if new else may_lose) - _ROUNDING:
        yield f"{after:.4f} on {name}, where what is served has {before:.4f}"


def worse_than_parent(scores: Sequence[Mapping[str, Any]], may_lose: float) -> list[str]:
    """Return in words where a training's own *scores* are below its parent's by more than it may lose."""
    return [
        f"{each['accuracy']:.4f} on {name_of(each, number == 0)}, where its parent has {each['parent']['accuracy']:.4f}"
        for number, each in enumerate(scores)
        if each["accuracy"] < each["parent"]["accuracy"] - may_lose - _ROUNDING
    ]


def refuse(short: Sequence[str], may_lose: float, fix: str) -> None:
    """Raise if anything is *short*.

    Raises:
        NotGoodEnough: with both figures; nothing of it goes on.
    """
    if short:
        want = f"it may lose {may_lose:g} of what was known and nothing on new rows, and is not promoted"
        raise NotGoodEnough("accuracy", f"got {'; and '.join(short)}", want, fix)
