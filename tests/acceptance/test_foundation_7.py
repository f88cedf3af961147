"""Line 7: wrong fleets. The command prints the whole message, ends with 2, and opens no socket."""

from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.log import Log
from tests.support.wrong_fleets import WRONG, check_refusals

SORTS = {
    *("syntax", "duplicate-key", "unknown-key", "wrong-type", "missing-unit", "bad-unit", "duplicate-serial"),
    *("duplicate-mac", "duplicate-address", "duplicate-mount", "drive-in-two-tiers", "too-few-members"),
    *("nested-mount", "kernel-name", "unknown-group", "unknown-profile", "dangling-tier", "bad-cidr", "empty"),
    *("not-utf-8", "many"),
}
"""What has to be among the wrong fleets."""


@line("foundation", 7)
def test_wrong_fleets_are_refused_with_the_whole_message(log: Log) -> str:
    """Every wrong fleet through `rackwright check`; stdout is empty and stderr as written beside the fleet."""
    fleets = sorted(WRONG.glob("*.yaml"))
    need({path.stem for path in fleets} >= SORTS, f"no such wrong fleet: {SORTS - {path.stem for path in fleets}}")
    messages = check_refusals(log, "check", fleets)
    at_once = (WRONG / "many.expected").read_text().count("error: ")
    need(at_once >= 6, f"one file has to hold six errors at once, many.yaml holds {at_once}")
    return f"{len(fleets)} wrong fleets, {messages} messages as written, {at_once} at once in one file, no socket"
