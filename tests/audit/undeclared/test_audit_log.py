"""The rules about a host's audit log: a chain continues the head that an earlier audit saw, or is a finding."""

from dataclasses import replace
from typing import Any

import pytest

from rackwright.audit.undeclared.search import apply
from rackwright.audit.undeclared.table import RULES
from rackwright.facts.facts import Facts
from rackwright.facts.log_chain import HostHead, SeenHead, newest_head
from tests.support.converged_host import declared

CHAIN = "a" * 32
HASHES = [f"{number:032x}" for number in range(4, 8)]
RAW: dict[str, Any] = {
    "finished_at": 2000.0,
    "clock_offset_seconds": 0.0,
    "log_chain": {"id": CHAIN, "number": 7, "time": "2026-11-29T08:00:00Z", "hashes": "".join(HASHES), "breaks": []},
}


def seen(number: int, hash: str, time: float = 1000.0, chain: str = CHAIN) -> SeenHead:
    head: HostHead = {"chain": chain, "number": number, "hash": hash}
    return SeenHead(head, time)


def found(*heads: SeenHead, **changes: Any) -> list[tuple[str, bool]]:
    facts = Facts({**RAW, **changes})
    declaration = replace(declared(), seen_heads=heads)
    return [(finding.found, unknown) for finding, unknown in apply(RULES["RW-141"], facts, declaration)]


def test_a_chain_continues_each_head_whose_hash_it_shows():
    assert found() == []
    for number in range(4, 8):
        assert found(seen(number, HASHES[number - 4])) == []


@pytest.mark.parametrize(
    ("head", "text"),
    [
        (seen(6, "f" * 32), "entry 6 has another hash than an earlier audit saw: the chain was written again"),
        (seen(9, "f" * 32), "the newest entry is 7, and an earlier audit saw entry 9"),
        (seen(7, HASHES[3], chain="b" * 32), "another chain than an earlier audit saw, with 8 entries"),
    ],
)
def test_a_chain_that_does_not_continue_the_head_is_found(head, text):
    assert found(head) == [(text, False)]
    assert newest_head(Facts(RAW), [head]) is None


def test_a_chain_that_is_gone_is_found():
    assert found(seen(7, HASHES[3]), log_chain=None) == [("no chain, and an earlier audit saw entry 7", False)]


def test_a_head_older_than_the_shown_hashes_stays_unknown():
    (found_, unknown), *more = found(seen(3, "f" * 32))

    assert (unknown, more) == (True, [])
    assert found_ == "an earlier audit saw entry 3, and the host shows the entries from 4"
    assert newest_head(Facts(RAW), [seen(3, "f" * 32)]) is None


def test_without_the_heads_of_earlier_audits_the_chain_is_unknown():
    declaration = replace(declared(), seen_heads=None)

    assert [unknown for _, unknown in apply(RULES["RW-141"], Facts(RAW), declaration)] == [True]
    assert [*apply(RULES["RW-141"], Facts({**RAW, "log_chain": None}), declaration)] == []


def test_an_older_snapshot_is_compared_with_the_audits_before_it():
    later = seen(9, "f" * 32, time=3000.0)

    assert found(seen(6, HASHES[2]), later) == []
    assert found(seen(6, "f" * 32), later) != []


def test_a_host_with_a_clock_set_back_is_compared_all_the_same():
    assert found(seen(9, "f" * 32), finished_at=20.0, clock_offset_seconds=-1980.0) != []


@pytest.mark.parametrize("chain", [{"unknown": "x"}, {}, {**RAW["log_chain"], "hashes": "x"}, [], "x"])
def test_a_chain_that_cannot_be_read_is_unknown(chain):
    assert [unknown for _, unknown in found(seen(7, HASHES[3]), log_chain=chain)] == [True]
    assert newest_head(Facts({**RAW, "log_chain": chain}), []) is None


def test_each_break_is_one_finding():
    breaks = [
        {"sort": "edited", "number": 5, "place": "/var/log/audit/audit.log, the lines before 2026-11-29T08:00:00Z"},
        {"sort": "rotated", "number": None, "place": "/var/log/audit/audit.log.1, of 9 bytes"},
    ]
    facts = Facts({**RAW, "log_chain": {**RAW["log_chain"], "breaks": breaks}})

    assert [finding.thing for finding, _ in apply(RULES["RW-140"], facts, declared())] == [
        "audit_log:5",
        "audit_log:/var/log/audit/audit.log.1",
    ]
