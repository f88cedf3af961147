"""Line 8: a role's variables that are wrong, refused in the preview by the role's own argument specification."""

from tests.accept.foundation_7 import WRONG, told_whole
from tests.accept.harness import Log, check, need

SORTS = {"role-unknown", "role-type", "role-choice", "role-contradiction"}


@check("roles.8")
def wrong_variables_are_told_whole(log: Log) -> str:
    """Before any connection: no socket may be opened."""
    fleets = sorted(WRONG.glob("role-*.yaml"))
    need({path.stem for path in fleets} >= SORTS, f"no such wrong fleet: {SORTS - {path.stem for path in fleets}}")
    messages = told_whole(log, "preview", fleets)
    return f"{len(fleets)} fleets, {messages} messages as written, no socket"
