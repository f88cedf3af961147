"""Signatures of the lines between the hosts of a replica."""

import pytest

from workloads.serving.signed_lines import SignedLines, UnsignedLine

KEY = b"ab" * 16


def pair(key: bytes = KEY) -> tuple[SignedLines, SignedLines]:
    """Return both sides of a connection, after their nonces; the worker has *key*."""
    leader, worker = SignedLines(KEY, "leader"), SignedLines(key, "worker")
    assert leader.verify(worker.nonce) is None
    assert worker.verify(leader.nonce) is None
    return leader, worker


def test_lines_pass_in_their_order() -> None:
    leader, worker = pair()
    for line in (b".", b"start", b"refused because", b"."):
        assert worker.verify(leader.sign(line)) == line
        assert leader.verify(worker.sign(line)) == line


def test_a_line_counts_once() -> None:
    leader, worker = pair()
    line = worker.sign(b".")
    assert leader.verify(line) == b"."
    with pytest.raises(UnsignedLine, match="not signed with the key of the replica"):
        leader.verify(line)


def test_a_line_counts_in_its_place_connection_and_direction_alone() -> None:
    leader, worker = pair()
    worker.sign(b".")
    with pytest.raises(UnsignedLine):
        leader.verify(worker.sign(b"."))  # the second line, without the first
    with pytest.raises(UnsignedLine):
        pair()[0].verify(pair()[1].sign(b"."))
    leader, worker = pair()
    with pytest.raises(UnsignedLine):
        leader.verify(leader.sign(b"."))  # reflected to its sender


@pytest.mark.parametrize("change", [lambda line: b"," + line[1:], lambda line: line[:-1] + b"x", lambda line: b"."])
def test_a_changed_line_is_refused(change) -> None:
    leader, worker = pair()
    with pytest.raises(UnsignedLine):
        leader.verify(change(worker.sign(b".")))


def test_another_key_is_refused() -> None:
    leader, worker = pair(b"cd" * 16)
    with pytest.raises(UnsignedLine):
        leader.verify(worker.sign(b"."))


@pytest.mark.parametrize("nonce", [b"", b"0" * 31, b'{"rank": 1, "fingerprint": "same"}'])
def test_a_connection_begins_with_a_nonce_of_the_other_side(nonce: bytes) -> None:
    leader = SignedLines(KEY, "leader")
    with pytest.raises(UnsignedLine, match="no nonce"):
        leader.verify(nonce)
    with pytest.raises(UnsignedLine, match="no nonce"):
        leader.verify(leader.nonce)
    assert not leader.is_ready
