"""Measure and record a server's accuracy on its canary, and roll back to the previous release if it is too low.

    python -m workloads.serving.watch /etc/rackwright/servers/digits/server.json

A timer of the host runs this command, as root. A failed measurement is recorded as such: it is no
accuracy, and never rolls anything back.
"""

import sys
from dataclasses import replace
from pathlib import Path

from workloads.command_line import new_parser
from workloads.errors import Diagnostic, UserError
from workloads.serving.switch import NotServing, ReleaseSwitch, SwitchBusy, print_line, run
from workloads.serving.watch_config import AccuracyRecord, PreviousRelease, choose_rollback

WRONG, UNKNOWN = 1, 3
STATUS = (
    "Exit status: 0 the accuracy is right, or `up` is at work, 1 it is too low or has changed, 2 a file is "
    "wrong, 3 the accuracy is unknown, 4 the previous release does not serve either."
)


def watch(switch: ReleaseSwitch) -> int:
    """Measure once, and return the exit status.

    Raises:
        NotServing: the rollback failed: the previous release does not serve.
    """
    try:
        with switch.exclusive(0):
            return _observe(switch)
    except SwitchBusy:
        print_line("another process switches the release, and judges it")
        return 0


def _observe(switch: ReleaseSwitch) -> int:
    settings = switch.plan.watch
    name = switch.current()
    try:
        if settings is None:
            raise _cannot_judge("server.json declares no watch")
        if name is None:
            raise _cannot_judge("there is no current release")
        canary = switch.release(name).canary
        if canary is None:
            raise _cannot_judge(f"release {name} has no canary")
        if why := switch.unready_reason(name):
            raise _cannot_judge(why)
        accuracy = switch.measure(name, canary)
    except UserError as error:
        switch.write_record(
            switch.read_record().model_copy(update={"why_not": f"{error.diagnostic.where}: {error.diagnostic.problem}"})
        )
        print_line(f"the accuracy is unknown: {error}")
        return UNKNOWN
    record = switch.record_reading(name, accuracy)
    for line in describe_record(record):
        print_line(line)
    target, why_not = choose_rollback(record, settings.roll_back, _previous_release(switch))
    if target is not None:
        _roll_back(switch, target, accuracy, record.least)
    elif why_not:
        print_line(why_not)
    return WRONG if record.is_low or record.has_drifted else 0


def describe_record(record: AccuracyRecord) -> list[str]:
    """Return the lines to print about the last measurement."""
    last, before = record.found, record.before
    if last is None:
        return []
    lines = [f"the canary is {last.accuracy:.4%} correct, at least {record.least:.2%} is required"]
    if before and record.has_drifted:
        hours = (last.at - before.at) / 3600
        lines.append(
            f"it changed by {record.drift:+.4%} within {hours:.1f} h, more than {record.change:.2%}: it was"
            f" {before.accuracy:.4%} with version {before.version}; the version is now {last.version}"
        )
    return lines


def _roll_back(switch: ReleaseSwitch, target: str, accuracy: float, least: float) -> None:
    print_line(f"rolling back to the previous release {target}")
    why = f"watched: the canary is {accuracy:.4%} correct, at least {least:.2%} is required"
    try:
        switch.roll_back_to(target, why)
    except NotServing as error:
        note, help = "neither of the two releases is accurate enough", "Promote another model"
        raise NotServing(replace(error.diagnostic, note=note, help=help)) from None
    print_line(f"release {target} serves again, until `rackwright up` sets another model")


def _previous_release(switch: ReleaseSwitch) -> PreviousRelease:
    state = switch.state()
    name: str | None = state.get("previous")
    refused = (state.get("refused") or {}).get("release")
    if name is None or not switch.is_installed(name):
        return PreviousRelease(name, False, False, refused)
    return PreviousRelease(name, True, switch.release(name).canary is not None, refused)


def _cannot_judge(problem: str) -> UserError:
    return UserError(Diagnostic("watch", problem, "a release with a canary", "Run `rackwright up`"))


def main(argv: list[str] | None = None) -> int:
    parser = new_parser("workloads.serving.watch", __doc__, STATUS)
    parser.add_argument("plan", metavar="SERVER.json", type=Path, help="the server's description")
    return run(parser.parse_args(argv).plan, watch)


if __name__ == "__main__":
    sys.exit(main())
