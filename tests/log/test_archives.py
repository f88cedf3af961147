"""The archives that the operations log names: those of completed moves, by bucket and stack."""

from pathlib import Path

import pytest

from rackwright.log.archives import moved_archives
from rackwright.log.chain import Break
from rackwright.log.operation import record
from rackwright.log.writer import OperationsLog
from tests.support.operations_log import log_with_key, new_key


@pytest.fixture
def log(tmp_path: Path) -> OperationsLog:
    return log_with_key(tmp_path / "log", new_key(tmp_path / "key"))


def move(
    log: OperationsLog, *places: str, stack: str = "rack", command: str = "tier move", outcome: str = "done"
) -> None:
    with record(log.append, command, stack=stack, every_attempt=True) as operation:
        for place in places:
            operation.complete("", place, outcome)


def test_archives_of_completed_moves_are_named(log):
    move(log, "s3://models/a")
    move(log, "s3://models/b", "s3://models/c", "/srv/warm/d")
    move(log, "s3://backups/other")
    move(log, "s3://models/failed", outcome="failed")
    move(log, "s3://models/of-another-stack", stack="lab")
    move(log, "s3://models/restored", command="tier restore")

    assert moved_archives(log.path.read_bytes(), "rack", "models") == {"a", "b", "c"}


def test_an_edited_log_is_no_list_of_archives(log):
    move(log, "s3://models/a")
    content = log.path.read_bytes().replace(b"s3://models/a", b"s3://models/b")

    assert isinstance(moved_archives(content, "rack", "models"), Break)
