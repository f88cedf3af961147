"""The reasons of failures as they happen, and the summary of a command that ended early."""

import io
import json
import signal
import subprocess
from pathlib import Path
from typing import Any, cast

import pytest

from rackwright.cli import ending, pulumi_records, pulumi_run
from rackwright.cli.plan import read_events
from rackwright.cli.pulumi_display import Failures
from rackwright.cli.pulumi_summary import change_lines, outcome_lines
from rackwright.provider import lifetime, outcomes

TIER = "rackwright:storage:Tier"


@pytest.fixture
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(lifetime.VARIABLE, str(tmp_path / "records"))
    return tmp_path / "records"


def event(kind: str, name: str, op: str = "create") -> str:
    metadata = {"op": op, "type": TIER, "urn": f"urn:pulumi:lab::p::{TIER}::{name}"}
    return json.dumps({"timestamp": 100, kind: {"metadata": metadata}}) + "\n"


def test_each_change_is_done_failed_in_work_or_not_begun(records, tmp_path):
    began = [event("resourcePreEvent", name) for name in ("a/hot", "b/hot", "c/hot", "d/hot")]
    ended = [
        event("resOutputsEvent", "a/hot"),
        event("resOpFailedEvent", "b/hot"),
        event("resOutputsEvent", "f", "same"),
    ]
    log = tmp_path / "events"
    log.write_text("".join([*began, *ended]) + '{"resourcePreEvent": {"meta')  # pulumi was killed while it wrote
    outcomes.note("done", "a/hot")
    outcomes.note("failed", "b/hot", "step 2 of 3 (make the array) failed on b: mdadm ended with 1")
    outcomes.note("cancelled", "c/hot")

    expected = {f"{host}/hot" for host in "abcde"} | {"f"}
    assert [*outcome_lines(outcomes.read(records)), *change_lines(records, log, expected, True)] == [
        "failed: b/hot",
        "cancelled: c/hot",
        "  b/hot: step 2 of 3 (make the array) failed on b: mdadm ended with 1",
        "done: 1 of 6 resources",
        "in work: d/hot",
        "not begun: e/hot",
    ]
    assert len(read_events(log).changes) == 4


def test_a_failure_is_printed_once_and_goes_when_it_is_repaired(records, tmp_path):
    outcomes.note("failed", "a/hot", "no answer")
    records.write_text(records.read_text() + '{"outcome": "fai')
    lines, failures = io.StringIO(records.read_text()), Failures()
    assert list(failures.lines(lines)) == ["a/hot: failed: no answer"]
    assert list(failures.lines(lines)) == []

    records.write_text("")
    outcomes.note("failed", "a/hot", "no answer")
    outcomes.note("done", "a/hot")
    assert list(change_lines(records, tmp_path / "events", {"a/hot"}, False)) == []


def test_a_reason_has_a_limit(records):
    outcomes.note("failed", "a", "x" * 10_000)

    assert len(outcomes.read_reasons(records)["a"]) == outcomes.REASON_CHARACTERS


class Lingering:
    """A pulumi that gets a signal's command to stop, and does not end at once."""

    def __init__(self) -> None:
        self.events: list[BaseException | int] = [ending.StopSignal(signal.SIGTERM), *[waiting()] * 3, 255]
        self.stops = 0

    def wait(self, seconds: float) -> int:
        event = self.events.pop(0)
        if isinstance(event, BaseException):
            raise event
        return event

    def terminate(self) -> None:
        self.stops += 1


def waiting() -> subprocess.TimeoutExpired:
    return subprocess.TimeoutExpired("pulumi", 0)


def test_a_pulumi_that_lingers_after_a_stop_has_one_summary_until_then(records, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(pulumi_run, "SUMMARY_SECONDS", -1.0)
    recorded = pulumi_records.Records(tmp_path / "up", "lab", {"a/hot", "b/hot"})
    monkeypatch.setenv(lifetime.VARIABLE, str(recorded.outcomes))
    outcomes.note("failed", "a/hot", "no answer")
    process = Lingering()

    status, stopped = pulumi_run._await_end(cast(Any, process), lambda: None, recorded)

    assert (status, stopped.number if stopped else 0, process.stops) == (130, signal.SIGTERM, 1)
    assert capsys.readouterr().err.splitlines() == [
        "pulumi has not ended yet; until now:",
        "failed: a/hot",
        "  a/hot: no answer",
        "done: 0 of 2 resources",
        "not begun: b/hot",
    ]
