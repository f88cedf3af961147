"""Coarser forms of values, and the forms of dates."""

import math
import re
from bisect import bisect_right
from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import Any

from rackwright.schema.masking import MaskedColumn

_ISO = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
    r"((?P<sign>[T ])[0-9]{2}:[0-9]{2}(?P<seconds>:[0-9]{2}(?P<fraction>\.[0-9]{1,9})?)?(Z|[+-][0-9]{2}:?[0-9]{2})?)?"
)
_NUMBER = re.compile(r"[+-]?[0-9]{1,300}(\.[0-9]{1,300})?([eE][+-]?[0-9]{1,3})?")
_YEAR = re.compile(r"[12][0-9]{3}")
FORMS = {
    "year": _YEAR,
    "month": re.compile(r"[12][0-9]{3}-(0[1-9]|1[0-2])"),
    "decade": re.compile(r"[12][0-9]{2}0s"),
}
"""Forms of generalised dates."""
PLACEHOLDERS = frozenset(
    (
        "0001-01-01",
        "1111-11-11",
        "1582-10-15",
        "1753-01-01",
        "1800-01-01",
        "1899-12-30",
        "1899-12-31",
        "1900-01-01",
        "1901-01-01",
        "1970-01-01",
        "2999-12-31",
        "3000-01-01",
        "9999-01-01",
        "9999-12-31",
    )
)
"""Dates that programs write for an unknown one: moved, they would show the offset of their person."""


YEAR_FIRST = 1000
"""First year of dates that move: strftime writes earlier ones with fewer digits."""


class WrongValue(ValueError):
    """A value that a rule cannot treat; the text says what the rule expects and does not quote the value."""


def generalise(column: MaskedColumn, value: Any) -> str:
    """Return the coarser form of *value*.

    Raises:
        WrongValue: The value is no date, or no number.
    """
    if column.to == "prefix":
        text, length = str(value), column.length or 0
        return f"{text[:length]}*" if len(text) > length else "*"  # a short value is none of its beginnings
    if column.to == "bins":
        return _bin(column.edges, value)
    day = _year(value) or parse_date(value, column.form)
    if column.to == "month" and _year(value):
        raise WrongValue("dates with a month")
    return {"year": f"{day:%Y}", "month": f"{day:%Y-%m}", "decade": f"{day.year // 10}0s"}[str(column.to)]


def is_generalised(column: MaskedColumn, value: Any) -> bool:
    """Return whether *value* has the form of the results of `generalise`."""
    if not isinstance(value, str):
        return False
    if column.to == "prefix":
        return value == "*" or (value.endswith("*") and len(value) == (column.length or 0) + 1)
    if column.to == "bins":
        return value in bins(column.edges)
    return FORMS[str(column.to)].fullmatch(value) is not None


def bins(edges: tuple[float, ...]) -> list[str]:
    """Return the names of the bins between *edges*."""
    names = [str(float(each)).removesuffix(".0") for each in edges]  # all digits, so that two edges have two names
    between = [f"{low}-<{high}" for low, high in pairwise(names)]
    return [f"<{names[0]}", *between, f">={names[-1]}"]


def shift(column: MaskedColumn, value: Any, days: int) -> Any:
    """Return the date or time *value*, *days* later, in the same form; None for a placeholder of an unknown date.

    Raises:
        WrongValue: The value is no date, or has no such neighbour in the calendar.
    """
    day = parse_date(value, column.form)
    text = f"{day.year:04}-{day.month:02}-{day.day:02}"
    is_placeholder = text in PLACEHOLDERS or text in column.placeholders or text[5:] in column.placeholders
    return None if is_placeholder else _move(column, value, day, days)


def is_shifted(column: MaskedColumn, value: Any) -> bool:
    """Return whether *value* has the form of the results of `shift`."""
    try:
        return bool(value == _move(column, value, parse_date(value, column.form), 0))
    except WrongValue:
        return False


def _move(column: MaskedColumn, value: Any, day: date, days: int) -> Any:
    """Return *day*, *days* later, in the form of *value*: nothing of the text of *value* is copied."""
    try:
        moved = day + timedelta(days)
    except OverflowError:
        moved = date.min
    if moved.year < YEAR_FIRST:
        raise WrongValue(f"dates of the years {YEAR_FIRST} to 9999")
    if isinstance(moved, datetime):
        moved = moved.replace(tzinfo=None)  # an offset from UTC shows the season
    if isinstance(value, date):
        return moved
    if column.form:
        return moved.strftime(column.form)
    parts = _ISO.fullmatch(value)
    if parts is None or parts["sign"] is None or not isinstance(moved, datetime):
        return moved.isoformat()[:10]
    fraction = "milliseconds" if len(parts["fraction"] or "") <= len(".123") else "microseconds"
    return moved.isoformat(
        parts["sign"], fraction if parts["fraction"] else "seconds" if parts["seconds"] else "minutes"
    )


def parse_date(value: Any, form: str | None) -> date:
    """Return the date or time of *value*, by *form* of strptime or by ISO 8601.

    Raises:
        WrongValue: The value is neither.
    """
    if isinstance(value, date):
        return value
    try:
        if form:
            return datetime.strptime(value, form)
        if _ISO.fullmatch(value):
            return datetime.fromisoformat(value)
    except (ValueError, TypeError):
        pass
    raise WrongValue(f"dates like {form}" if form else "dates of ISO 8601, like 2026-05-31")


def _year(value: Any) -> date | None:
    """Return the first day of *value*, a year alone; None if it is something else."""
    return date(int(value), 1, 1) if isinstance(value, int | str) and _YEAR.fullmatch(str(value)) else None


def _bin(edges: tuple[float, ...], value: Any) -> str:
    if isinstance(value, bool) or (isinstance(value, str) and not _NUMBER.fullmatch(value.strip())):
        raise WrongValue("numbers")
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise WrongValue("numbers") from None
    if not math.isfinite(number):
        raise WrongValue("numbers")
    return bins(edges)[bisect_right(edges, number)]
