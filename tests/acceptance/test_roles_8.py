"""Line 8: a role's variables that are wrong, refused in the preview by the role's own argument specification."""

from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.log import Log
from tests.support.wrong_fleets import WRONG, check_refusals

SORTS = {"role-unknown", "role-type", "role-choice", "role-contradiction"}


@line("roles", 8)
def test_wrong_variables_are_refused_before_any_connection(log: Log) -> str:
    """Before any connection: no socket may be opened."""
    fleets = sorted(WRONG.glob("role-*.yaml"))
    need({path.stem for path in fleets} >= SORTS, f"no such wrong fleet: {SORTS - {path.stem for path in fleets}}")
    messages = check_refusals(log, "preview", fleets)
    return f"{len(fleets)} fleets, {messages} messages as written, no socket"
