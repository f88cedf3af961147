"""The commands of quarantine: their lines, statuses and refusals, with a monitoring host in memory."""

import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import typer

from rackwright.cli import project, quarantine, recording, status
from rackwright.errors import DeclarationError
from rackwright.hosts import verdicts
from rackwright.quarantine.hosts import quarantine as count
from tests.support.verdicts import RECEIVER, Monitor, began, chain, ended, rack


@pytest.fixture
def monitor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Monitor:
    """The monitoring host of the stack `rack`, which the commands reach."""
    monitor, stack = Monitor(), rack(tmp_path)
    object.__setattr__(stack, "unknown_host_errors", lambda *names: ())

    @contextmanager
    def connect(stack: Any, is_report: bool = False) -> Iterator[Monitor]:
        yield monitor

    monkeypatch.setattr(project, "stack", lambda name: stack)
    monkeypatch.setattr(project, "secrets", lambda stack: stack)
    monkeypatch.setattr(project, "connect_hosts", connect)
    monkeypatch.setattr(recording, "record", lambda *arguments: nullcontext())
    return monitor


def list_status(as_json: bool = False) -> int:
    with pytest.raises(typer.Exit) as ended:
        quarantine.list_hosts("rack", as_json)
    return ended.value.exit_code


def test_a_rack_without_verdicts_has_no_host_in_quarantine(monitor: Monitor, capsys: Any) -> None:
    assert list_status() == 0
    assert capsys.readouterr().out == "no host is in quarantine\n"


def test_hosts_are_listed_with_their_causes_and_those_beyond_the_share(monitor: Monitor, capsys: Any) -> None:
    causes = began("gpu-01", detail="GPU 3"), began("gpu-01", "HostNotReached"), began("gpu-02")
    monitor.lines = chain(*causes)
    assert list_status() == 1
    assert capsys.readouterr().out == (
        "gpu-01: in quarantine since 2026-12-04T04:00:00Z: a GPU is lost (GPU 3); the host is not reached\n"
        "gpu-02: not in quarantine, as the share of 50 % of 3 hosts is used up: a GPU is lost\n"
    )
    assert list_status(as_json=True) == 1
    document = json.loads(capsys.readouterr().out)
    assert [each["alert"] for each in document["hosts"]["gpu-01"]] == ["GpuLost", "HostNotReached"]
    assert [*document["beyond"]] == ["gpu-02"]


def test_a_quarantine_ends_with_a_reason(monitor: Monitor, capsys: Any) -> None:
    monitor.lines = chain(began("gpu-01"))
    for reason in ("", " ", "two\nlines", "x" * 501):
        with pytest.raises(DeclarationError, match="--reason"):
            quarantine.end("rack", "gpu-01", reason)
    with pytest.raises(DeclarationError, match="gpu-02 is in no quarantine"):
        quarantine.end("rack", "gpu-02", "a new GPU")
    assert all(call == (verdicts.SHOW, b"") for call in monitor.calls)

    quarantine.end("rack", "gpu-01", "a new GPU")
    assert (monitor.calls[-2][0][1:], monitor.calls[-2][1]) == (("end", "gpu-01"), b"a new GPU")
    assert capsys.readouterr().out == "the quarantine of gpu-01 has ended\n"
    monitor.lines = chain(began("gpu-01"), ended("gpu-01"))
    assert list_status() == 0


def test_the_error_of_a_fleet_without_quarantine_says_where_to_declare_it(monitor: Monitor) -> None:
    stack = project.stack("rack")
    stack.fleet.hosts[RECEIVER].roles.clear()
    with pytest.raises(DeclarationError, match="the fleet has no quarantine"):
        quarantine.list_hosts("rack")


def test_status_names_the_quarantine_beside_its_host() -> None:
    from rackwright.audit.report import AuditResult

    known = verdicts.QuarantineLook(count([began("gpu-01")], ["gpu-01", "gpu-02"], 50))
    rows = status.host_rows([AuditResult(name, "t", 3) for name in ("gpu-01", "gpu-02")], quarantine=known)

    text = "in quarantine since 2026-12-04T04:00:00Z: a GPU is lost"
    assert [(row.state, row.notices) for row in rows] == [("as declared", (text,)), ("as declared", ())]
    assert known.as_json()["hosts"].keys() == {"gpu-01"}
