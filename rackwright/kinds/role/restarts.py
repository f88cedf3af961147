"""What only a restart of the host makes hold: whose restart that is, and what was done for it already."""

from dataclasses import replace

from rackwright.core.contract import Claim, Reboot
from rackwright.facts.facts import Facts
from rackwright.facts.view import UnknownFact
from rackwright.kinds.role.entries import Entry
from rackwright.kinds.role.spec import RoleSpec

BY_HAND = (
    "it holds after a restart: restart {host} at a good time, or write `reboot: allowed` there and run `rackwright up`"
)


def claim(spec: RoleSpec, entry: Entry, made: Claim) -> Claim:
    """Return the claim *made* of *entry*, with what a person does where no restart is allowed."""
    if not entry.restart or spec.reboot:
        return made
    by_hand = BY_HAND.format(host=spec.host)
    absent = None if made.remedy_absent is None else f"{made.remedy_absent}; {by_hand}"
    return replace(made, remedy="; ".join(filter(None, [made.remedy, by_hand])), remedy_absent=absent)


def step(host: str) -> Reboot:
    return Reboot(f"restart {host}, drained by /etc/rackwright/drain.d")


def prepared(spec: RoleSpec, facts: Facts) -> bool:
    """Return whether the role was played in this very start of the host, so that another start is all it takes."""
    owner = facts.owner(spec.owner) or {}
    return owner.get("phase") == "ready" and "boot_id" in owner and owner["boot_id"] == boot_id(facts)


def boot_id(facts: Facts) -> str | None:
    try:
        return facts.boot_id
    except UnknownFact:  # of an older probe: then the role is played once more than it needs to be
        return None
