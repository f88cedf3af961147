"""A plan is never made of what is not known."""

from collections.abc import Callable

from rackwright.core.contract import Plan, Refusal
from rackwright.facts.view import UnknownFact


def refuse_unknown(id: str, make: Callable[[], Plan]) -> Plan:
    """Return the plan that *make* makes; a refusal with the reason where it needs a fact that is not known."""
    try:
        return make()
    except UnknownFact as reason:
        want = "a plan needs to know what is on the host"
        return Plan(refusals=(Refusal(id, f"got no answer ({reason})", want, "Check that on the host, and run again"),))
