"""A canary that is asked again while a release serves."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from rackwright.core.contract import Put
from rackwright.facts.facts import Facts
from rackwright.kinds.model_server.files import files, release_of
from rackwright.kinds.model_server.spec import ServerSpec
from rackwright.schema.server import Canary
from tests.support.model_server_spec import (
    CANARY,
    KIND,
    OTHER,
    REPOSITORY,
    SPEC,
    TIMER,
    VERSION,
    WATCHED,
    bare,
    differences,
    served,
    texts,
)
from tests.support.specs import changed

UNIT, ASKED = f"/etc/systemd/system/{TIMER}", f"{SPEC.etc}/server.json"


def planned(raw: dict[str, Any], spec: ServerSpec = WATCHED):
    return KIND.plan(spec, differences(raw, spec), Facts(raw), REPOSITORY)


def test_one_that_is_watched_as_declared_is_left_alone() -> None:
    assert differences(served(WATCHED), WATCHED) == ()
    assert planned(served(WATCHED)).steps == ()


def test_a_new_one_is_watched_once_it_serves() -> None:
    steps = texts(planned(bare()))
    timer = [f"start {TIMER} at boot", "check the canary every 15 min"]
    [switch] = [text for text in steps if text.startswith("serve version")]

    assert [text for text in steps if text in timer] == timer
    assert steps.index(switch) < steps.index(timer[0])


@pytest.mark.parametrize(
    ("change", "path"),
    [
        (lambda raw: raw["units"][TIMER].update(active="inactive"), f"unit:{TIMER}.active"),
        (lambda raw: raw["units"][TIMER].update(enabled="disabled"), f"unit:{TIMER}.state"),
        (lambda raw: raw["files"][UNIT].update(digest="x"), f"file:{UNIT}.content"),
        (lambda raw: raw["files"][ASKED].update(digest="x"), f"file:{ASKED}.content"),
    ],
)  # fmt: skip
def test_what_watches_is_mended_and_the_server_goes_on(change, path: str) -> None:
    raw = served(WATCHED)
    change(raw)
    steps = texts(planned(raw))

    assert [item.path for item in differences(raw, WATCHED)] == [path]
    assert not [text for text in steps if text.startswith("serve")]
    assert ("check the canary every 15 min" in steps) == (TIMER in path)


def test_other_terms_are_no_other_release() -> None:
    watch = Canary(data="rows.npz", accuracy=0.9, every="1min", change=0.5)
    other = changed(WATCHED, canary=watch)
    plan = planned(served(WATCHED), other)
    [wanted] = [json.loads(step.content) for step in plan.steps if isinstance(step, Put) and step.path == ASKED]

    assert release_of(other, REPOSITORY) == release_of(WATCHED, REPOSITORY) != release_of(SPEC, REPOSITORY)
    assert not [text for text in texts(plan) if text.startswith("serve")]
    assert wanted["watch"] == {"every_seconds": 60, "change": 0.5, "roll_back": False}


def test_a_release_may_take_as_long_as_a_look_that_it_waits_for() -> None:
    def seconds(spec: ServerSpec) -> float:
        plan = planned(bare(), spec)
        return next(step.timeout_seconds for step in plan.steps if step.text.startswith("serve version"))

    canary = changed(SPEC, **CANARY)
    assert seconds(WATCHED) == seconds(canary) + WATCHED.watch_seconds


def test_one_that_is_watched_no_more_keeps_nothing_of_it() -> None:
    """
    The watch goes first: the next release is not judged twice, and nobody holds its lock.
    """
    raw = served(WATCHED)
    found = {item.path for item in differences(raw, SPEC)}
    steps = texts(planned(raw, SPEC))

    assert {f"file:/etc/systemd/system/{unit}.present" for unit in SPEC.watch_units} <= found
    assert steps[:4] == [
        f"stop {TIMER}", "wait for the end of watch-digits.service",
        *(f"remove /etc/systemd/system/{unit}" for unit in SPEC.watch_units),
    ]  # fmt: skip
    assert [text for text in steps if text.startswith("serve version")]


def test_it_goes_with_its_server() -> None:
    steps = texts(KIND.removal(WATCHED, Facts(served(WATCHED)), REPOSITORY, True))

    assert steps[0] == f"stop {TIMER}"
    assert f"remove /etc/systemd/system/{TIMER}" in steps


def test_an_abandoned_release_is_a_difference_with_its_reason() -> None:
    raw = served(WATCHED)
    why = "watched: the canary has 50.0000% right, at least 90.00% are asked for"
    refused = {"release": release_of(WATCHED, REPOSITORY), "version": VERSION, "why": why}
    raw["servers"]["digits"].update(version=OTHER, release="aaaaaaaaaaaa", refused=refused)
    found = {item.path: item.actual for item in differences(raw, WATCHED)}

    assert found == {
        "server:digits.version": OTHER, "server:digits.release": "aaaaaaaaaaaa", "server:digits.refused": why,
    }  # fmt: skip
    raw["servers"]["digits"]["refused"]["release"] = "bbbbbbbbbbbb"
    assert "server:digits.refused" not in {item.path for item in differences(raw, WATCHED)}


@pytest.mark.parametrize(
    ("noted", "expected"),
    [
        (None, {"unknown": "no canary check has run yet"}),
        ({"found": None, "before": None, "least": 0, "why_not": "no rows"}, {"unknown": "no rows"}),
        (
            {"found": {"accuracy": 0.93, "at": 600}, "before": None, "least": 0.9, "why_not": None},
            {"accuracy": 0.93, "asked": 0.9, "age_seconds": 400, "low": False},
        ),
        (
            {
                "found": {"accuracy": 0.85, "at": 600}, "before": {"accuracy": 0.95, "at": 100}, "least": 0.9,
                "why_not": "busy",
            },
            {
                "accuracy": 0.85, "asked": 0.9, "age_seconds": 400, "low": True, "before": 0.95,
                "before_age_seconds": 900, "moved_by": -0.1, "moved": True, "why_not": "busy",
            },
        ),
        (
            {"found": {"accuracy": 0.95, "at": -801}, "before": None, "least": 0.9, "why_not": None},
            {
                "accuracy": 0.95, "asked": 0.9, "age_seconds": 1801, "low": False,
                "unknown": "the last canary check is too long ago",
            },
        ),
    ],
    ids=["nothing", "nothing that came to anything", "right", "low, moved, and then busy", "late"],
)  # fmt: skip
def test_the_report_says_how_right_it_is(noted: Any, expected: dict[str, Any]) -> None:
    raw = {**served(WATCHED), "taken_at": 1000.0}
    raw["servers"]["digits"]["accuracy"] = noted

    assert KIND.report(WATCHED, Facts(raw))["accuracy"] == expected
    assert "accuracy" not in KIND.report(SPEC, Facts(raw))


def test_an_accuracy_that_cannot_be_read_is_not_known() -> None:
    raw = served(WATCHED)
    raw["servers"]["digits"]["accuracy"] = {"unknown": "no permission"}
    report = KIND.report(WATCHED, Facts(raw))

    assert "no permission" in report["accuracy"]["unknown"]
    assert report["version"] == VERSION


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd to read it")
def test_systemd_understands_the_units(tmp_path: Path) -> None:
    for file in files(WATCHED, REPOSITORY):
        if "/watch-" in file.path:
            assert isinstance(file.content, str)
            text = file.content.replace(SPEC.python, "/bin/true")  # it looks for the program
            (tmp_path / file.path.rpartition("/")[2]).write_text(text)

    argv = ["systemd-analyze", "verify", *sorted(str(path) for path in tmp_path.iterdir())]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)

    assert len([*tmp_path.iterdir()]) == 2
    assert (done.returncode, done.stderr) == (0, "")
