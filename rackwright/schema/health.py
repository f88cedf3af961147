"""Health thresholds for drives."""

from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

from rackwright.schema.base import COUNT_MAX, Schema
from rackwright.schema.problem import Problem

ANY = "any"


def _limit(limit: Any) -> Any:
    if limit != ANY and (type(limit) is not int or not 0 <= limit <= COUNT_MAX):
        expected = "a threshold is a whole number, or any"
        raise Problem(f"got {limit!r}", expected, "Write 0, or a higher limit for a drive that was checked")
    return limit


_LIMIT = {"anyOf": [{"type": "integer", "minimum": 0, "maximum": COUNT_MAX}, {"const": ANY}]}
Limit = Annotated[int | str, BeforeValidator(_limit), WithJsonSchema(_LIMIT)]


class Health(Schema):
    """Thresholds for the drives' own counters. A higher count is a difference, and so is a failing drive."""

    pending_sectors: Limit = 0
    """Unreadable sectors of a SATA drive that were not rewritten; `any` for drives that do not count them."""
    media_errors: Limit = 0
    """Failed reads of written data; `any` for drives that do not count them."""
    wear_percent: Limit = 90
    """Used share of the writes that the manufacturer guarantees, in percent; 0 for rotating drives."""
