"""The refusal of a plan that needs an unknown fact; every kind uses it."""

from collections.abc import Callable

from rackwright.core.contract import Plan
from rackwright.errors import Diagnostic
from rackwright.facts.view import UnknownFact


def unknown_fact(where: str, reason: UnknownFact | str) -> Diagnostic:
    """Return the refusal of a plan for *where* that needs a fact which is unknown for *reason*."""
    return Diagnostic(
        where,
        f"no plan is possible while a fact is unknown: {reason}",
        help="Remove the cause on the host, and run again",
        id="fact-unknown",
    )


def refuse_unknown(id: str, make: Callable[[], Plan]) -> Plan:
    """Return the plan of *make*; a refusal with the reason if it needs an unknown fact."""
    try:
        return make()
    except UnknownFact as reason:
        return Plan(refusals=(unknown_fact(id, reason),))
