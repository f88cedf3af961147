"""Maintenance of a host: its last day and its reason."""

from datetime import UTC, date, datetime
from typing import Annotated

from pydantic import AfterValidator, Field

from rackwright.schema.base import Schema
from rackwright.schema.problem import Problem


def parse_day(text: str) -> str:
    """Return a day in ISO 8601.

    Raises:
        Problem: the text is no day.
    """
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        expected = "a period ends with a day, its last one"
        raise Problem(f"got {text!r}", expected, "Write it like 2027-01-31") from None


class Maintenance(Schema):
    """A period in which rackwright does not connect to the host, compare it or change it, and keeps its state."""

    until: Annotated[str, AfterValidator(parse_day)]
    """Last day of the maintenance, in UTC."""
    reason: Annotated[str, Field(min_length=1)]
    """Reason, which previews and audits print."""

    def is_active(self, now: datetime) -> bool:
        """Return whether *now* is not after the last day."""
        return now.astimezone(UTC).date() <= date.fromisoformat(self.until)

    @property
    def text(self) -> str:
        return f"in maintenance until {self.until}: {self.reason}"
