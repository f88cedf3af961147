"""Line 5: contradictory declarations of accelerators, refused before any connection, each with what would fit."""

import json
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from rackwright.fleet.source import format_keys
from rackwright.schema.accelerator.alternatives import problems
from rackwright.schema.problem import Keys
from tests.support.acceptance import line
from tests.support.contradictions import CASES, GOOD, HOST, Case, accelerators, messages
from tests.support.expect import need
from tests.support.log import Log
from tests.support.wrong_fleets import check_refusals

LEAST = 30


@line("accelerators", 5)
def test_contradictory_accelerators_are_refused_before_any_connection(log: Log) -> str:
    """Every case by its rules; as a whole fleet, through the commands, those that need no role that is not there."""
    need(len(CASES) >= LEAST, f"there are {len(CASES)} contradictory declarations, {LEAST} are asked for")
    wrong = [case["says"] for case in CASES if messages(accelerators(case)) != case["messages"]]
    need(not wrong, f"other messages than written: {'; '.join(wrong)}")
    refused = [name for name, a in GOOD.items() if messages(a)]
    need(not refused, f"refused, though it goes together: {'; '.join(refused)}")
    with TemporaryDirectory() as directory:
        fleets = list(_fleets(Path(directory)))
        checked = check_refusals(log, "check", fleets)
        previewed = check_refusals(log, "preview", fleets)
    return (
        f"{len(CASES)} contradictions refused as written, {len(GOOD)} sound declarations let be; "
        f"{len(fleets)} as whole fleets, {checked} messages by check, {previewed} by preview, no socket"
    )


def _fleets(directory: Path) -> Iterator[Path]:
    """Write each case that has no role as a fleet with its message beside it, and yield where."""
    for number, case in enumerate(CASES):
        if "gpus" in case or "roles" in case["host"]:
            continue
        path = directory / f"{case['rules'][0]}-{number}.yaml"
        lines = ["fleet: wrong", "hosts:", "  alpha:"]
        lines += [f"    {key}: {json.dumps(value)}" for key, value in (HOST | case["host"]).items()]
        path.write_text("\n".join(lines) + "\n")
        path.with_suffix(".expected").write_text("".join(_messages(path.name, lines, case)))
        yield path


def _messages(name: str, lines: list[str], case: Case) -> Iterator[str]:
    """Yield the messages about a case as the messages about a fleet's file are printed: with its lines."""

    def line(keys: Keys) -> int:
        return next(number for number, text in enumerate(lines, 1) if text.startswith(f"    {keys[0]}:"))

    for problem in problems(accelerators(case)):
        place = f"{name}:{line(problem.path)}: hosts.alpha.{format_keys(problem.path)}"
        yield problem.at(place, f"line {line(problem.also)}" if problem.also else "").render() + "\n"
