"""Claims that hold only after a restart of the host: the remedy, the restart step, and the preparation."""

from dataclasses import replace
from typing import TYPE_CHECKING

from rackwright.core.contract import Claim, Reboot
from rackwright.facts.facts import Facts
from rackwright.facts.view import UnknownFact
from rackwright.kinds.role.spec import RoleSpec

if TYPE_CHECKING:
    from rackwright.kinds.role.entries.entry import Entry

BY_HAND = (
    "it holds after a restart: restart {host} at a good time, or write `reboot: allowed` there and run `rackwright up`"
)


def add_remedy(spec: RoleSpec, entry: "Entry", claim: Claim) -> Claim:
    """Return *claim*, with the remedy of a manual restart if *entry* needs one and the fleet allows none."""
    if not entry.restart or spec.reboot:
        return claim
    by_hand = BY_HAND.format(host=spec.host)
    absent = None if claim.remedy_absent is None else f"{claim.remedy_absent}; {by_hand}"
    return replace(claim, remedy="; ".join(filter(None, [claim.remedy, by_hand])), remedy_absent=absent)


def step(host: str) -> Reboot:
    return Reboot(f"restart {host}, drained by /etc/rackwright/drain.d")


def is_prepared(spec: RoleSpec, facts: Facts) -> bool:
    """Return whether the role was played since the last start of the host, so that only a restart is missing."""
    owner = facts.owner(spec.owner) or {}
    return owner.get("phase") == "ready" and "boot_id" in owner and owner["boot_id"] == boot_id(facts)


def boot_id(facts: Facts) -> str | None:
    try:
        return facts.boot_id
    except UnknownFact:  # an older probe does not report it: the role is then played once more than needed
        return None
