"""Lines that admit undeclared things on hosts."""

import re
from datetime import UTC, date, datetime
from typing import Annotated

from pydantic import AfterValidator, Field

from rackwright.schema.base import Schema
from rackwright.schema.maintenance import parse_day

Day = Annotated[str, AfterValidator(parse_day)]


class Allow(Schema):
    """An undeclared thing that is meant to be on its hosts, or a known pitfall that is accepted there."""

    rule: Annotated[str, Field(pattern=r"^RW-[0-9]{3}$")]
    """Id of the rule, as the audit prints it; `rackwright explain` lists all rules."""
    thing: Annotated[str, Field(min_length=1)]
    """Name of the thing, as the audit prints it; `*` stands for any characters."""
    host: Annotated[str, Field(min_length=1)] = "*"
    """Name of the host; `*` stands for any characters."""
    reason: Annotated[str, Field(min_length=1)]
    """Reason why the thing is meant to be there, which audits print."""
    owner: Annotated[str, Field(min_length=1)]
    """Person or team that answers for the thing."""
    expires: Day
    """Last day of the line, in UTC; from the next day the thing counts again."""

    def admits(self, host: str, rule: str, thing: str) -> bool:
        """Return whether the line names this thing on this host, expired or not."""
        return self.rule == rule and _matches(self.host, host) and _matches(self.thing, thing)

    def has_expired(self, now: datetime) -> bool:
        """Return whether *now* is after the last day."""
        return now.astimezone(UTC).date() > date.fromisoformat(self.expires)

    @property
    def text(self) -> str:
        return f"{self.reason} ({self.owner}, until {self.expires})"


def _matches(pattern: str, name: str) -> bool:
    """Return whether *name* is *pattern*, in which only a star is special: names have brackets and question marks."""
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), name, re.DOTALL) is not None
