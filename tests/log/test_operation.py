"""The two entries of an operation, for each way in which it can end."""

import signal
from datetime import UTC, datetime
from typing import Any

import pytest

from rackwright.cli.ending import StopSignal
from rackwright.errors import ChangeRefused, Diagnostic, HostUnreachable, StepFailed
from rackwright.log.entry import Line
from rackwright.log.operation import EndNotWritten, record
from rackwright.log.reading import Filter, format_operations
from rackwright.log.writer import LogNotWritten

PLANNED: Any = [{"host": "a", "resource": "a/hot", "change": "create", "steps": ["mkfs"], "destroys": ["ext4 of 1 TB"]}]


class Log:
    """A log in memory that can be full after some entries."""

    def __init__(self, room: int = 10) -> None:
        self.entries: list[Any] = []
        self.room = room

    def append(self, event: str, fields: Any) -> None:
        if len(self.entries) >= self.room:
            raise LogNotWritten(Diagnostic("log", "the log cannot be written: No space left on device"))
        self.entries.append({"event": event, **fields})

    @property
    def ends(self) -> list[Any]:
        return [(entry["outcome"], entry.get("error", "")) for entry in self.entries if entry["event"] == "ended"]


def test_began_and_ended_share_an_identifier() -> None:
    log = Log()
    with record(log.append, "up", stack="lab") as operation:
        operation.begin(PLANNED)
        operation.complete("a", "a/hot", "done", 1)

    began, ended = log.entries
    assert (began["event"], ended["event"], ended["outcome"]) == ("began", "ended", "done")
    assert began["operation"] == ended["operation"] and began["planned"] == PLANNED
    assert ended["completed"] == [{"host": "a", "resource": "a/hot", "outcome": "done", "steps_done": 1}]


@pytest.mark.parametrize(
    ("error", "outcome", "text"),
    [
        (ChangeRefused(Diagnostic("a", "it holds data")), "refused", "a: it holds data."),
        (HostUnreachable(Diagnostic("a", "no answer")), "unreachable", "a: no answer."),
        (StepFailed(Diagnostic("a", "mkfs failed")), "failed", "a: mkfs failed."),
        (KeyboardInterrupt(), "cancelled", "KeyboardInterrupt: "),
        (StopSignal(signal.SIGTERM), "cancelled", "StopSignal: SIGTERM"),
        (ValueError("odd"), "failed", "ValueError: odd"),
    ],
)
def test_the_outcome_is_that_of_the_error(error: BaseException, outcome: str, text: str) -> None:
    log = Log()
    with pytest.raises(type(error)), record(log.append, "up") as operation:
        operation.begin([])
        raise error

    assert log.ends == [(outcome, text)]


def test_nothing_runs_after_a_begin_that_could_not_be_written() -> None:
    log, ran = Log(room=0), []
    with pytest.raises(LogNotWritten), record(log.append, "up") as operation:
        operation.begin(PLANNED)
        ran.append("a step")

    assert ran == [] and log.entries == []


def test_an_end_that_could_not_be_written_is_an_error_of_its_own() -> None:
    log, problem = Log(room=1), "up is done; only the entry about its end is missing"
    with pytest.raises(EndNotWritten, match=problem) as failed, record(log.append, "up") as operation:
        operation.begin([])

    assert failed.value.exit_status == 4


def test_an_error_matters_more_than_an_end_that_could_not_be_written() -> None:
    with pytest.raises(StepFailed, match="mkfs failed") as failed, record(Log(room=1).append, "up") as operation:
        operation.begin([])
        raise StepFailed(Diagnostic("a", "mkfs failed"))

    assert "No space left" in failed.value.__notes__[0]


def test_an_operation_without_a_change_has_an_entry_only_on_request() -> None:
    log = Log()
    with record(log.append, "up"):
        pass
    assert log.entries == []
    with record(log.append, "create", every_attempt=True):
        pass
    assert log.ends == [("unchanged", "")]


def test_texts_have_no_secret() -> None:
    log = Log()
    with (
        pytest.raises(StepFailed),
        record(log.append, "up", redact=lambda text: text.replace("1 TB", "…")) as operation,
    ):
        operation.begin(PLANNED)
        raise StepFailed(Diagnostic("a", "1 TB is too small"))

    assert "1 TB" not in str(log.entries) and "ext4 of …" in str(log.entries)


def entry(event: str, **fields: Any) -> Any:
    actor = {"account": "root", "login": "olga", "computer": "ops", "source": "192.0.2.7", "program": "rackwright"}
    return {"event": event, "time": "2026-11-28T21:00:00.000000Z", "actor": actor, "sequence": 1, **fields}


def test_an_operation_is_a_line_with_its_changes() -> None:
    shared = {"operation": "1", "command": "create", "resource": "a/hot", "hosts": ["a"]}
    completed = [{"host": "a", "resource": "a/hot", "outcome": "done", "steps_done": 1}]
    entries = [
        entry("began", **shared, planned=PLANNED),
        entry("began", operation="2", command="up", stack="lab", planned=[]),
        entry("ended", **shared, completed=completed, outcome="done"),
    ]

    assert list(format_operations(entries)) == [
        "2026-11-28 21:00:00  root@ops (login olga) from 192.0.2.7  create a/hot: done",
        "  a/hot: create, 1 step, destroys ext4 of 1 TB: done",
        "2026-11-28 21:00:00  root@ops (login olga) from 192.0.2.7  up lab: no end: it still runs, or was killed",
    ]


def test_a_filter_selects_by_host_actor_stack_time_and_key() -> None:
    one = Line(entry("began", hosts=["a"], planned=PLANNED, stack="lab"), "hash", "SHA256:own", b"")
    before, after = datetime(2026, 11, 28, 20, tzinfo=UTC), datetime(2026, 11, 28, 22, tzinfo=UTC)

    for matching in (
        Filter(),
        Filter(hosts=["b", "a"]),
        Filter(actors=["olga"]),
        Filter(stack="lab"),
        Filter(since=before, until=after),
        Filter(key="SHA256:own"),
    ):
        assert matching.matches(one)
    for other in (
        Filter(hosts=["b"]),
        Filter(actors=["max"]),
        Filter(stack="rack"),
        Filter(since=after),
        Filter(until=before),
        Filter(key="SHA256:other"),
    ):
        assert not other.matches(one)
