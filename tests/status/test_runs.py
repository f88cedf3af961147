"""What the commands about a run tell: on recorded facts, with what its hosts would answer."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from rackwright.errors import DeclarationError, Diagnostic, HostUnreachable, StepFailed
from rackwright.facts.facts import Facts
from rackwright.hosts.transport import CommandResult
from rackwright.schema.server import Server
from rackwright.stack import declare
from rackwright.status import runs
from tests.support.json_documents import checked
from tests.support.own_clock import own_clock
from tests.support.recorded_hosts import ALSO, OTHERS, recorded

STACK = ALSO[OTHERS.index("trained.yaml")]
UNIT = "training-digits.service"
LOG = "/var/log/rackwright/runs/digits/log"


class Rack:
    """Two hosts as they were recorded, which keep in mind what they are asked to run."""

    def __init__(self) -> None:
        self.raw = {host: recorded(host) for host in ("ember", "cinder")}
        self.away: set[str] = set()
        self.asked: list[tuple[str, tuple[str, ...]]] = []
        self.locked: list[str] = []
        self.answer = CommandResult(0, b"one\ntwo\n", "")

    def facts(self, host: str, fresh: bool = False) -> Facts:
        assert fresh
        if host in self.away:
            raise HostUnreachable(Diagnostic(host, "no answer", "it answers", "Look at it"))
        return Facts(self.raw[host])

    def connection(self, host: str) -> "Connection":
        return Connection(self, host)

    @contextmanager
    def lease(self, host: str, id: str, say: Any) -> Iterator[None]:
        self.locked.append(id)
        yield

    def try_again(self) -> None:
        self.away.clear()

    def ends(self, outcome: str) -> None:
        self.raw["ember"]["units"][UNIT]["active"] = "failed" if outcome == "failed" else "inactive"
        self.raw["ember"]["runs"]["digits"]["outcome"] = outcome


class Connection:
    def __init__(self, rack: Rack, host: str) -> None:
        self.rack, self.host = rack, host

    def run(self, argv: tuple[str, ...], timeout: float, on_line: Any = None) -> CommandResult:
        self.rack.asked.append((self.host, argv))
        for line in self.rack.answer.stdout.decode().splitlines() if on_line else ():
            on_line(line)
        return self.rack.answer


@pytest.fixture
def rack() -> Any:
    return Rack()


def test_a_run_has_its_state_while_no_model_of_a_server_is_published() -> None:
    """The model that it trains is the one that the server waits for."""
    desk = Server.model_validate({"model": {"path": "models/desk"}, "hosts": ["ember"], "anybody": True})
    stack = replace(STACK, fleet=STACK.fleet.model_copy(update={"servers": {"desk": desk}}))
    with pytest.raises(DeclarationError, match="no model in models/desk"):
        declare(stack)
    assert [each.name for each in runs.find_resources(stack, "digits")] == [
        each.name for each in runs.find_resources(STACK, "digits")
    ]


def test_a_run_that_goes_reports_how_far_it_is_on_each_host(rack: Any) -> None:
    report = runs.observe(rack, STACK, "digits")
    document = checked("run status", report.as_json())

    assert report.exit_status == 0
    assert (document["outcome"], document["steps"]) == ("running", 20000)
    assert [*document["ranks"]] == ["ember", "cinder"]
    assert str(report).splitlines()[0].startswith(f"digits: running, step {document['step']} of 20000, loss ")
    assert "to go" in str(report)
    assert str(report).splitlines()[2] == f"  cinder: metrics-1.jsonl {document['ranks']['cinder']['metrics-1.jsonl']}"


@pytest.mark.parametrize(("seconds", "text"), [(1 << 90, "more than a year"), (-1 << 90, "0:00:00"), (90, "0:01:30")])
def test_numbers_that_no_run_has_are_printed_all_the_same(seconds: int, text: str) -> None:
    launcher = {"outcome": "running", "step": 1, "steps": 9, "eta_seconds": seconds}

    assert str(runs.RunReport("digits", launcher, {})) == f"digits: running, step 1 of 9, {text} to go"


@pytest.mark.parametrize(("outcome", "status"), [("finished", 0), ("stopped", 1), ("failed", 1)])
def test_its_status_says_whether_it_is_as_wanted(rack: Any, outcome: str, status: int) -> None:
    rack.ends(outcome)
    report = runs.observe(rack, STACK, "digits")

    assert (report.outcome, report.exit_status) == (outcome, status)
    assert "to go" not in str(report)


@pytest.mark.parametrize("host", ["ember", "cinder"])
def test_a_host_that_is_not_reached_is_unknown_and_not_fine(rack: Any, host: str) -> None:
    rack.away.add(host)
    report = runs.observe(rack, STACK, "digits")

    assert report.exit_status == 3
    assert "not reached: no answer" in str(report)


def test_programs_get_what_is_known_of_any_run(rack: Any) -> None:
    rack.ends("failed")
    assert checked("run stop", runs.observe(rack, STACK, "digits").as_json())["outcome"] == "failed"
    rack.raw["ember"]["runs"] = {}
    assert checked("run wait", runs.observe(rack, STACK, "digits").as_json())["outcome"] == "absent"
    rack.away |= {"ember", "cinder"}
    unknown = checked("run wait", runs.observe(rack, STACK, "digits").as_json())
    assert (unknown["outcome"], unknown["unknown"]) == ("unknown", "not reached: no answer")


def test_a_run_that_is_not_there_yet_differs(rack: Any) -> None:
    rack.raw["ember"]["runs"] = {}
    report = runs.observe(rack, STACK, "digits")

    assert (report.outcome, report.exit_status) == ("absent", 1)


def test_an_undeclared_run_is_refused(rack: Any) -> None:
    with pytest.raises(DeclarationError, match=r"^run: stack lab has no run 'digit'; one of digits\. Write digits\.$"):
        runs.observe(rack, STACK, "digit")


def test_its_log_is_read_on_its_launcher_host(rack: Any) -> None:
    heard: list[str] = []
    runs.stream_logs(rack, STACK, "digits", 2, False, heard.append)

    assert heard == ["one", "two"]
    assert rack.asked == [("ember", ("runuser", "-u", "run-digits", "--", "tail", "--lines=2", LOG))]

    rack.answer = CommandResult(1, b"", "no such file")
    with pytest.raises(StepFailed, match="there is no log on ember"):
        runs.stream_logs(rack, STACK, "digits", 2, False, heard.append)


def test_it_is_stopped_by_who_holds_the_lock_of_its_host(rack: Any) -> None:
    runs.stop(rack, STACK, "digits", print)

    assert rack.locked == ["ember/digits"]
    assert rack.asked == [("ember", ("systemctl", "stop", UNIT))]

    rack.answer = CommandResult(5, b"", "Unit training-digits.service not loaded.\n")
    with pytest.raises(StepFailed, match="not loaded"):
        runs.stop(rack, STACK, "digits", print)


def test_the_wait_is_over_when_the_run_is(rack: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A host that is not reached for a while does not end it.
    """
    rack.away.add("ember")
    looks = iter(["running", "finished"])

    def pass_by(seconds: float) -> None:
        if (outcome := next(looks)) != "running":
            rack.ends(outcome)

    # the module's name alone: threads of other tests sleep as well
    own_clock(monkeypatch, runs, sleep=pass_by)
    heard: list[str] = []

    assert runs.wait(rack, STACK, "digits", None, heard.append).outcome == "finished"
    assert [line.split(",")[0] for line in heard] == ["digits: unknown", "digits: running"]


def test_no_request_waits_longer_than_declared(rack: Any) -> None:
    assert runs.wait(rack, STACK, "digits", 0, print).outcome == "running"
