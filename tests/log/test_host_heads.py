"""The heads of hosts' audit logs in the operations log: the newest are read, from entries with a valid signature."""

from pathlib import Path

import pytest

from rackwright.log import host_heads
from rackwright.log.chain import Break
from rackwright.log.host_heads import read_heads
from rackwright.log.operation import record
from rackwright.log.reading import format_operations
from rackwright.log.writer import OperationsLog
from tests.support.operations_log import log_with_key, new_key

STACK = "lab"


@pytest.fixture
def log(tmp_path: Path) -> OperationsLog:
    return log_with_key(tmp_path / "log", new_key(tmp_path / "key"))


def audit(log: OperationsLog, stack: str = STACK, **numbers: int) -> None:
    with record(log.append, "audit", stack=stack, every_attempt=True) as operation:
        operation.host_heads = {
            host: {"chain": "c0", "number": number, "hash": f"{number:032x}"} for host, number in numbers.items()
        }


def numbers(log: OperationsLog) -> dict[str, list[int]]:
    heads = read_heads(log.path.read_bytes(), STACK)
    assert not isinstance(heads, Break)
    return {host: [each.head["number"] for each in seen] for host, seen in heads.items()}


def test_each_audit_notes_the_heads_of_its_hosts(log):
    audit(log, alpha=3, beta=8)
    audit(log)
    audit(log, alpha=5)

    assert numbers(log) == {"alpha": [3, 5], "beta": [8]}


def test_the_newest_audits_are_read(log, monkeypatch):
    monkeypatch.setattr(host_heads, "AUDITS", 2)
    for number in range(4):
        audit(log, alpha=number)

    assert numbers(log) == {"alpha": [2, 3]}


def test_the_heads_before_another_chain_was_accepted_do_not_count(log):
    audit(log, alpha=3, beta=8)
    log.append("host_accepted", {"stack": STACK, "hosts": ["alpha"], "reason": "installed again"})
    assert numbers(log) == {"alpha": [], "beta": [8]}

    audit(log, alpha=0, beta=9)
    assert numbers(log) == {"alpha": [0], "beta": [8, 9]}


def test_hosts_of_another_stack_have_heads_of_their_own(log):
    audit(log, alpha=3)
    audit(log, "rack", alpha=8)
    log.append("host_accepted", {"stack": "rack", "hosts": ["alpha"], "reason": "x"})

    assert numbers(log) == {"alpha": [3]}


@pytest.mark.parametrize(
    ("command", "hosts", "arguments", "left"),
    [
        ("rebuild", ["alpha"], {}, {"alpha": [], "beta": [8]}),
        ("host forget", ["beta"], {}, {"alpha": [3], "beta": []}),
        ("twin reset", [], {"stacks": "serving lab"}, {"alpha": [], "beta": []}),
        ("twin reset", [], {"stacks": "serving"}, {"alpha": [3], "beta": [8]}),
        ("up", ["alpha"], {}, {"alpha": [3], "beta": [8]}),
    ],
)
def test_a_new_system_may_begin_another_chain(log, command, hosts, arguments, left):
    audit(log, alpha=3, beta=8)
    stack = "serving" if arguments else STACK

    with record(log.append, command, stack=stack, hosts=hosts, arguments=arguments) as operation:
        operation.begin([])

    assert numbers(log) == left


@pytest.mark.parametrize(("old", "new"), [(b'"number":3', b'"number":4'), (b'"signature":"', b'"signature":"A')])
def test_a_head_that_was_edited_in_the_log_is_a_broken_place(log, old, new):
    audit(log, alpha=3)
    audit(log, alpha=5)
    log.path.write_bytes(log.path.read_bytes().replace(old, new, 1))

    assert isinstance(read_heads(log.path.read_bytes(), STACK), Break)


def test_people_read_which_logs_an_audit_has_seen(log):
    audit(log, alpha=3, beta=8)
    log.append("host_accepted", {"stack": STACK, "hosts": ["alpha"], "reason": "installed again"})

    entries = [line.data for line in host_heads.select(log.path.read_bytes(), lambda text: b"operation" in text, 9)]
    assert [*format_operations(entries)][1] == "  audit logs of hosts: alpha to entry 3, beta to entry 8"
