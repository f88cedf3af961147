"""How much a drive may have suffered before somebody is told to look at it."""

from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

from rackwright.schema.base import Schema
from rackwright.schema.problem import Problem

ANY = "any"


def _limit(limit: Any) -> Any:
    if limit != ANY and (type(limit) is not int or limit < 0):
        want = "a threshold is a whole number, or any"
        raise Problem(f"got {limit!r}", want, "Write 0, or more for a drive that somebody has looked at")
    return limit


Limit = Annotated[
    int | str, BeforeValidator(_limit), WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 0}, {"const": ANY}]})
]


class Health(Schema):
    """Thresholds for what drives count of themselves: more differs, and so does a drive that calls itself failing."""

    pending_sectors: Limit = 0
    """Sectors that a SATA drive cannot read and nobody has written anew; `any` for drives that do not count them."""
    media_errors: Limit = 0
    """How often a drive could not give back what was written; `any` for drives that do not count it."""
    wear_percent: Limit = 90
    """Of the writes that its maker promises; 0 of a drive that turns."""
