"""The file of `status --page`, and the changes that it shows from the operations log."""

from pathlib import Path

import pytest

from rackwright.cli import recording, status, status_page
from rackwright.errors import SetupError
from rackwright.log.operation import record
from rackwright.log.writer import OperationsLog
from tests.support import rack_page
from tests.support.operations_log import log_with_key, new_key


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OperationsLog:
    """The log of the present project, without an entry."""
    log = log_with_key(tmp_path / "log", new_key(tmp_path / "key"))
    monkeypatch.setattr(recording, "current_log", lambda: log)
    return log


def write(log: OperationsLog, command: str, stack: str, *hosts: str) -> None:
    with record(log.append, command, stack=stack, hosts=hosts, every_attempt=True) as operation:
        operation.begin([recording.change(f"{host}/hot", "update", host) for host in hosts])


def test_a_project_without_a_log_has_no_changes(log: OperationsLog) -> None:
    assert status_page.changes("rack") == ()


def test_changes_of_the_stack_are_shown_and_the_newest_is_first(log: OperationsLog) -> None:
    write(log, "up", "rack", "gpu-01", "gpu-02")
    write(log, "up", "another", "gpu-01")
    write(log, "audit", "rack", "gpu-01")
    write(log, "restore", "rack", "gpu-02")
    newest, oldest = status_page.changes("rack")

    assert "restore rack" in newest.summary and newest.hosts == {"gpu-02"}
    assert "up rack" in oldest.summary and oldest.hosts == {"gpu-01", "gpu-02"}
    assert oldest.details == ("gpu-01/hot: update", "gpu-02/hot: update")


def test_changes_of_a_broken_log_are_unknown(log: OperationsLog) -> None:
    write(log, "up", "rack", "gpu-01")
    log.path.write_bytes(log.path.read_bytes().replace(b'"up"', b'"pu"'))

    assert isinstance(status_page.changes("rack"), str)


def test_a_page_that_cannot_be_written_is_refused_before_a_host_is_read(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing" / "rack.html"):
        with pytest.raises(SetupError, match="the page cannot be written there"):
            status.show("rack", as_json=False, watch=False, seconds=10, page=path)


def test_the_page_of_a_fleet_without_monitoring_knows_of_no_alert(log: OperationsLog, tmp_path: Path) -> None:
    stack = rack_page.stack(tmp_path, 2)
    sight = rack_page.make_sight(stack)
    status_page.write(tmp_path / "rack.html", stack, sight.document.report, sight.overview, (), "none")
    text = (tmp_path / "rack.html").read_text()

    assert "Alerts are unknown: the fleet declares no monitoring" in text and "No alert fires" not in text
    assert "The operations log has no change of this stack." in text
