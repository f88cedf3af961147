"""Lines under `allow:` and what they admit."""

from collections.abc import Collection, Container, Iterable
from datetime import UTC, datetime, timedelta

from rackwright.schema.allow import Allow


def admitted_by(lines: Iterable[Allow], host: str, rule: str, thing: str, now: datetime) -> str | None:
    """Return the reason, owner and last day of the first line that admits the thing; None if no valid line does."""
    return next((line.text for line in lines if line.admits(host, rule, thing) and not line.has_expired(now)), None)


def allow_notices(lines: Iterable[Allow], rules: Container[str], now: datetime) -> dict[str, str]:
    """Return a notice for each line that has expired, or that names no rule, by its place in the fleet."""
    notices = {}
    for index, line in enumerate(lines):
        if line.rule not in rules:
            notices[f"allow[{index}]"] = f"there is no rule {line.rule}; remove the line"
        elif line.has_expired(now):
            notices[f"allow[{index}]"] = f"{line.rule} {line.thing} has expired on {line.expires}, and counts again"
    return notices


VALID_FOR = timedelta(days=90)
"""Time for which a new line admits its thing, after which its owner looks again."""


def new_lines(
    found: Iterable[tuple[str, str, str]], hosts: Collection[str], reason: str, owner: str, now: datetime
) -> list[Allow]:
    """Return the lines that admit *found*, sorted by rule and thing.

    Args:
        found: Host, rule and thing of each finding.
        hosts: All hosts of the fleet: a thing that is on all of several gets one line.
    """
    places: dict[tuple[str, str], set[str]] = {}
    for host, rule, thing in found:
        places.setdefault((rule, thing), set()).add(host)
    expires = (now.astimezone(UTC) + VALID_FOR).date().isoformat()
    return [
        Allow(rule=rule, thing=thing, host=host, reason=reason, owner=owner, expires=expires)
        for (rule, thing), several in sorted(places.items())
        for host in (["*"] if several == {*hosts} and len(several) > 1 else sorted(several))
    ]
