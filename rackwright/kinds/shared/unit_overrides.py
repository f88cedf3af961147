"""The claim that nothing overrides a declared systemd unit.

Every unit that a kind claims gets this claim: no drop-in, no file of that name in a directory with precedence, and no
earlier version in systemd's memory. Only the operator fixes an override: a drop-in belongs to its author.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from rackwright.core.contract import Claim, Difference, Plan, Want, Within

OVERRIDES = "overrides"
REMEDY = (
    "look with `systemctl cat` who has put it there; remove it, run `systemctl daemon-reload` and restart the unit, or"
    " declare it in the fleet"
)
UNUSED_STATES = ("masked", "masked-runtime", "disabled")
"""States of units that systemd never starts."""


def with_overrides(claims: Sequence[Claim]) -> tuple[Claim, ...]:
    """Return *claims* with a claim on the overrides of each unit. Files among *claims* may override a unit."""
    units = {claim.thing: claim for claim in claims if claim.thing.startswith("unit:") and _is_used(claim)}
    own = tuple(sorted({path for claim in claims for path in _unit_files(claim)}))
    want: Want = Within(own) if own else ()
    return (*claims, *(replace(claim, want={OVERRIDES: want}, remedy=REMEDY) for claim in units.values()))


def _is_used(claim: Claim) -> bool:
    declared = "state" in claim.want or "active" in claim.want
    return declared and not claim.secret and claim.want.get("state") not in UNUSED_STATES


def _unit_files(claim: Claim) -> Iterator[str]:
    sort, _, key = claim.thing.partition(":")
    if sort == "file" and "/systemd/system" in key:
        yield key
    elif sort == "unit" and "content" in claim.want:
        yield f"/etc/systemd/system/{key}"


def split_overrides(differences: Sequence[Difference]) -> tuple[tuple[Difference, ...], tuple[Difference, ...]]:
    """Return the *differences* that a kind plans for, and those on overrides, which need manual work."""
    overrides = tuple(item for item in differences if item.name == OVERRIDES and item.thing.startswith("unit:"))
    return tuple(item for item in differences if item not in overrides), overrides


def add_manual_work(plan: Plan, overrides: tuple[Difference, ...]) -> Plan:
    """Return *plan* with more differences that need manual work."""
    return replace(plan, by_hand=(*plan.by_hand, *overrides)) if overrides else plan
