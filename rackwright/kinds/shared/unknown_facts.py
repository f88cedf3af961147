"""The refusal of a plan that needs an unknown fact."""

from collections.abc import Callable

from rackwright.core.contract import Plan
from rackwright.errors import Diagnostic
from rackwright.facts.view import UnknownFact


def refuse_unknown(id: str, make: Callable[[], Plan]) -> Plan:
    """Return the plan of *make*; a refusal with the reason if it needs an unknown fact."""
    try:
        return make()
    except UnknownFact as reason:
        want = "a plan needs the facts of the host"
        return Plan(
            refusals=(Diagnostic(id, f"got no answer ({reason})", want, "Check that on the host, and run again"),)
        )
