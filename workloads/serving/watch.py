"""Look how many rows of its canary a server has right, and note it; where it is too few, the release before may serve.

    python -m workloads.serving.watch /etc/rackwright/servers/digits/server.json

A timer of the host runs this, as root. What cannot be judged is noted as such: it is no accuracy, and nothing follows.
"""

import sys
from pathlib import Path

from workloads.command_line import new_parser
from workloads.errors import WorkloadError
from workloads.serving.switch import Busy, NotServing, Switch, run, say
from workloads.serving.watch_config import Former, Noted, way_back

WRONG, NOT_KNOWN = 1, 3
STATUS = (
    "Exit status: 0 it is right, or `up` is at work, 1 too few are right or it has moved, 2 what it is to read is "
    "wrong, 3 it cannot be judged, 4 the release before does not serve either."
)


def watch(switch: Switch) -> int:
    """Look once, and return the exit status.

    Raises:
        NotServing: the release before was to serve, and does not.
    """
    try:
        with switch.alone(0):
            return _look(switch)
    except Busy:
        say("somebody lets another release serve: that is judged there")
        return 0


def _look(switch: Switch) -> int:
    asked = switch.plan.watch
    name = switch.current()
    try:
        if asked is None:
            raise _unjudged("got no watch in its server.json")
        if name is None:
            raise _unjudged("got no release that serves")
        canary = switch.release(name).canary
        if canary is None:
            raise _unjudged(f"got release {name}, which has no canary")
        if why := switch.unready(name):
            raise _unjudged(why)
        found = switch.measure(name, canary)
    except WorkloadError as error:
        switch.note_watched(switch.noted().model_copy(update={"why_not": f"{error.where}: {error.got}"}))
        say(f"it cannot be judged: {error}")
        return NOT_KNOWN
    noted = switch.note_reading(name, found)
    for line in told(noted):
        say(line)
    to, why_not = way_back(noted, asked.roll_back, _former(switch))
    if to is not None:
        _back(switch, to, found, noted.least)
    elif why_not:
        say(why_not)
    return WRONG if noted.low or noted.moved else 0


def told(noted: Noted) -> list[str]:
    """Return what is to be said of the last look."""
    found, before = noted.found, noted.before
    if found is None:
        return []
    lines = [f"the canary has {found.accuracy:.4%} right, at least {noted.least:.2%} are asked for"]
    if before and noted.moved:
        hours = (found.at - before.at) / 3600
        lines.append(
            f"that is {noted.moved_by:+.4%} within {hours:.1f} h, more than {noted.change:.2%}: it was"
            f" {before.accuracy:.4%} with version {before.version}, and is so with version {found.version}"
        )
    return lines


def _back(switch: Switch, to: str, found: float, least: float) -> None:
    say(f"release {to}, which ran before, is to serve again")
    why = f"watched: the canary has {found:.4%} right, at least {least:.2%} are asked for"
    try:
        switch.back_to(to, why)
    except NotServing as error:
        want = "a release that is right serves"
        raise NotServing(error.where, error.got, want, "Promote another model: neither of the two is right") from None
    say(f"release {to} serves again, until `rackwright up` is run with another model")


def _former(switch: Switch) -> Former:
    state = switch.state()
    name: str | None = state.get("previous")
    refused = (state.get("refused") or {}).get("release")
    if name is None or not switch.is_there(name):
        return Former(name, False, False, refused)
    return Former(name, True, switch.release(name).canary is not None, refused)


def _unjudged(got: str) -> WorkloadError:
    return WorkloadError("watch", got, "a release serves that has a canary", "Run `rackwright up`")


def main(argv: list[str] | None = None) -> int:
    parser = new_parser("workloads.serving.watch", __doc__, STATUS)
    parser.add_argument("plan", metavar="SERVER.json", type=Path, help="what the server is")
    return run(parser.parse_args(argv).plan, watch)


if __name__ == "__main__":
    sys.exit(main())
