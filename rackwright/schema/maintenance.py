"""A host that somebody works on: until when, and why."""

from datetime import UTC, date, datetime
from typing import Annotated

from pydantic import AfterValidator, Field

from rackwright.schema.base import Schema
from rackwright.schema.problem import Problem


def _day(written: str) -> str:
    try:
        return date.fromisoformat(written).isoformat()
    except ValueError:
        raise Problem(f"got {written!r}", "it is a day, the last one of it", "Write it like 2027-01-31") from None


class Maintenance(Schema):
    """The host is not asked, compared or changed for so long. What is known of it stays as it is."""

    until: Annotated[str, AfterValidator(_day)]
    """Its last day, by UTC."""
    reason: Annotated[str, Field(min_length=1)]
    """What previews and audits say of it."""

    def is_active(self, now: datetime) -> bool:
        return now.astimezone(UTC).date() <= date.fromisoformat(self.until)

    @property
    def text(self) -> str:
        return f"in maintenance until {self.until}: {self.reason}"
