"""Overrides of declared units: nothing beside a unit's own file may change what systemd does with it.

Every unit that a kind claims gets one more claim: that there is no drop-in, no file of that name that comes before it,
and no earlier version in systemd's memory. A person mends that: a drop-in belongs to its author.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from rackwright.core.contract import Claim, Difference, Plan, Want, Within

OVERRIDES = "overrides"
REMEDY = (
    "look with `systemctl cat` who has put it there; remove it, run `systemctl daemon-reload` and restart the unit, or"
    " write it into the declaration"
)
UNUSED = ("masked", "masked-runtime", "disabled")
"""States of units that systemd does not start, whatever their files say."""


def with_overrides(claims: Sequence[Claim]) -> tuple[Claim, ...]:
    """Return *claims* with what else is claimed of their units. Files that are among the claims may change a unit."""
    units = {claim.thing: claim for claim in claims if claim.thing.startswith("unit:") and _is_used(claim)}
    own = tuple(sorted({path for claim in claims for path in _unit_files(claim)}))
    want: Want = Within(own) if own else ()
    return (*claims, *(replace(claim, want={OVERRIDES: want}, remedy=REMEDY) for claim in units.values()))


def _is_used(claim: Claim) -> bool:
    declared = "state" in claim.want or "active" in claim.want
    return declared and not claim.secret and claim.want.get("state") not in UNUSED


def _unit_files(claim: Claim) -> Iterator[str]:
    sort, _, key = claim.thing.partition(":")
    if sort == "file" and "/systemd/system" in key:
        yield key
    elif sort == "unit" and "content" in claim.want:
        yield f"/etc/systemd/system/{key}"


def without_overrides(differences: Sequence[Difference]) -> tuple[tuple[Difference, ...], tuple[Difference, ...]]:
    """Return the *differences* that a kind plans for, and those that are left to a person."""
    left = tuple(item for item in differences if item.name == OVERRIDES and item.thing.startswith("unit:"))
    return tuple(item for item in differences if item not in left), left


def left_to_a_person(plan: Plan, left: tuple[Difference, ...]) -> Plan:
    return replace(plan, by_hand=(*plan.by_hand, *left)) if left else plan
