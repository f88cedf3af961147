"""Each way to tamper with a log is found, at its place and by its sort."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rackwright.log.chain import check, resume, unfinished_operations
from rackwright.log.entry import sign
from rackwright.log.heads import Head, compare
from rackwright.log.keys import load_signer
from tests.support.operations_log import VARIABLE, log_with_key, new_key
from tests.support.tampering import WAYS, Sample, altered, joined, parsed, sample_of


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    folder = tmp_path_factory.mktemp("sample")
    own, foreign = new_key(folder / "own"), new_key(folder / "foreign")
    log = log_with_key(folder / "log", own)
    for number in range(9):
        log.append("began" if number % 2 == 0 else "ended", {"operation": f"{number // 2}", "command": "up"})
    return sample_of(log.path.read_bytes(), own, foreign)


@pytest.mark.parametrize(
    ("tamper", "sort", "line", "sequence"),
    WAYS,
    ids=lambda value: value.__name__ if callable(value) else None,
)
def test_tampering_is_found_at_its_place(
    sample: Sample, tamper: Callable[[Sample], list[bytes]], sort: str, line: int, sequence: int | None
) -> None:
    broken = check(joined(tamper(sample))).broken

    assert broken is not None
    assert (broken.sort, broken.line, broken.sequence) == (sort, line, sequence)


def test_an_untouched_log_is_whole(sample: Sample) -> None:
    chain = check(sample.content)

    assert chain.broken is None and len(chain.entries) == 10
    assert [entry["sequence"] for entry in unfinished_operations(chain.entries)] == [9]


def test_a_missing_end_shows_only_against_a_copied_head(sample: Sample) -> None:
    chain = check(joined(sample.lines[:-2]))

    assert chain.broken is None
    broken = compare(chain, sample.heads).broken
    assert broken is not None and (broken.sort, broken.line) == ("truncated", 9)


def test_an_end_that_is_cut_inside_a_line_is_named(sample: Sample) -> None:
    broken = check(sample.content[:-20]).broken

    assert broken is not None and (broken.sort, broken.line) == ("truncated", 10)


def test_an_empty_file_is_a_missing_end() -> None:
    broken = check(b"").broken

    assert broken is not None and broken.sort == "truncated"


def test_a_holder_of_the_key_cannot_change_what_was_copied(sample: Sample) -> None:
    """A thief signs another history from entry 7 on; the head of entry 9 is at a second place."""
    lines, previous = sample.lines[:7], parsed(sample.lines[6]).hash
    for number in (7, 8, 9):
        line = sign(altered(sample.lines[number], previous=previous, command="harmless"), sample.own)
        lines.append(line.encode()[:-1])
        previous = line.hash
    chain = check(joined(lines))

    assert chain.broken is None, "the key is the right one"
    broken = compare(chain, sample.heads).broken
    assert broken is not None and (broken.sort, broken.sequence) == ("forked", 9)


def test_a_log_with_another_first_key_is_known_by_the_list_of_signers(sample: Sample, tmp_path: Path) -> None:
    thief = log_with_key(tmp_path, new_key(tmp_path / "thief"))
    thief.append("began", {"operation": "1", "command": "up"})
    content = thief.path.read_bytes()

    assert check(content).broken is None
    broken = check(content, trusted={sample.own.key.fingerprint}).broken
    assert broken is not None and (broken.sort, broken.line) == ("unknown_key", 1)
    assert compare(check(content), sample.heads).copied is None


def test_a_forged_head_accuses_no_log(sample: Sample) -> None:
    forged = sign(altered(sample.lines[9], command="other"), sample.foreign)
    content = sample.heads + Head.of(forged).encode() + b"garbage\n"
    comparison = compare(check(sample.content), content)

    assert comparison.broken is None and comparison.copied == 9
    assert comparison.unreadable == (2, 3)


def test_a_head_by_a_key_whose_entry_is_missing_counts_by_the_list_of_signers(tmp_path: Path) -> None:
    own, second = new_key(tmp_path / "own"), new_key(tmp_path / "second")
    log = log_with_key(tmp_path / "log", own)
    log.append("key_added", {"key": (tmp_path / "second.pub").read_text()})
    line = log_with_key(tmp_path / "log", second).append("began", {"operation": "1"})
    heads, signer = Head.of(line).encode(), load_signer({VARIABLE: str(second)}, None)
    chain = check(b"".join(log.path.read_bytes().splitlines(keepends=True)[:1]))

    assert chain.broken is None
    assert compare(chain, heads).unreadable == (1,)
    broken = compare(chain, heads, {signer.key.fingerprint: signer.key}).broken
    assert broken is not None and (broken.sort, broken.line) == ("truncated", 2)


def test_entries_of_a_revoked_key_are_named(tmp_path: Path) -> None:
    """The thief has a copy of the log, and appends to it after the revocation."""
    stolen, fresh = new_key(tmp_path / "stolen"), new_key(tmp_path / "fresh")
    log = log_with_key(tmp_path / "log", stolen)
    log.append("key_added", {"key": (tmp_path / "fresh.pub").read_text()})
    signer = load_signer({VARIABLE: str(stolen)}, None)
    log_with_key(tmp_path / "log", fresh).append("key_revoked", {"key": signer.key.fingerprint, "reason": "stolen"})
    content = log.path.read_bytes()
    last = parsed(content.splitlines()[-1])
    data: Any = {**last.data, "sequence": 3, "previous": last.hash, "event": "began", "operation": "1"}
    broken = check(content + sign(data, signer).encode()).broken

    assert check(content).broken is None
    assert broken is not None and (broken.sort, broken.sequence) == ("revoked_key", 3)


def test_a_revoked_key_never_comes_back(tmp_path: Path) -> None:
    old, fresh = new_key(tmp_path / "old"), new_key(tmp_path / "fresh")
    log = log_with_key(tmp_path / "log", old)
    log.append("key_added", {"key": (tmp_path / "fresh.pub").read_text()})
    other = log_with_key(tmp_path / "log", fresh)
    fingerprint = load_signer({VARIABLE: str(old)}, None).key.fingerprint
    other.append("key_revoked", {"key": fingerprint, "reason": "lost"})
    other.append("key_added", {"key": (tmp_path / "old.pub").read_text()})

    assert check(log.path.read_bytes()).state.keys[fingerprint].revoked_at == 2


def test_a_writer_continues_where_a_whole_check_ends(sample: Sample) -> None:
    assert resume(sample.content) == check(sample.content).state


@given(data=st.data())
def test_every_changed_byte_is_found(sample: Sample, data: st.DataObject) -> None:
    content = sample.content
    place = data.draw(st.integers(0, len(content) - 1))
    how = data.draw(st.sampled_from(["replace", "insert", "remove"]))
    byte = b"" if how == "remove" else bytes([data.draw(st.integers(0, 255))])
    after = content[:place] + byte + content[place + (how != "insert") :]

    assert (check(after).broken is None) == (after == content)


@given(data=st.data())
def test_every_other_content_is_found_with_a_copied_head(sample: Sample, data: st.DataObject) -> None:
    content = sample.content
    start = data.draw(st.integers(0, len(content)))
    end = data.draw(st.integers(start, len(content)))
    after = content[:start] + data.draw(st.binary(max_size=40)) + content[end:]
    chain = check(after)

    assert (chain.broken is None and compare(chain, sample.heads).broken is None) == (after == content)
