"""The claim that nothing overrides a declared systemd unit.

Every unit that a kind claims gets this claim: no drop-in, no file of that name in a directory with precedence, and no
earlier version in systemd's memory. Only the operator fixes an override: a drop-in belongs to its author. A mask until
the next start (`systemctl mask --runtime`) has no content of its own, and the plan takes it off.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

from rackwright.core.contract import Claim, Command, Difference, Plan, Want, Within

OVERRIDES = "overrides"
REMEDY = (
    "look with `systemctl cat` who has put it there; remove it, run `systemctl daemon-reload` and restart the unit, or"
    " declare it in the fleet"
)
UNUSED_STATES = ("masked", "masked-runtime", "disabled")
"""States of units that systemd never starts."""
MASKED, RUNTIME = "masked-runtime", "/run/systemd/system"
_UNMASK = ("systemctl", "unmask", "--runtime", "--quiet")


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


def unmask(plan: Plan, differences: Sequence[Difference]) -> Plan:
    """Return *plan* with a first step that takes off the masks of declared units until the next start.

    No unit starts behind such a mask, so a plan that starts one would fail.
    """
    masked = tuple(
        item.thing.partition(":")[2]
        for item in differences
        if item.name == "state" and item.thing.startswith("unit:") and item.actual == MASKED
    )
    if not masked or plan.refusals or not plan.steps:
        return plan
    step = Command(f"take the mask until the next start off {', '.join(masked)}", (*_UNMASK, *masked))
    own = {(f"unit:{name}", f"{RUNTIME}/{name}") for name in masked}
    by_hand = tuple(item for item in plan.by_hand if not _is_mask_alone(item, own))
    return replace(plan, steps=(step, *plan.steps), by_hand=by_hand)


def _is_mask_alone(item: Difference, own: Collection[tuple[str, str]]) -> bool:
    """Return whether *item* is about nothing else than a mask in *own*."""
    paths = item.actual if item.name == OVERRIDES and isinstance(item.actual, tuple) else ()
    return bool(paths) and all((item.thing, path) in own for path in paths)
