"""A part that a host sends to a store ends at a deadline, however slowly the store takes it or answers."""

import pytest

from rackwright.tiering.onhost import transfer
from rackwright.tiering.onhost.tree import TransferFailed
from tests.support.hostile_server import Answer, hostile_server, slow, slow_taker, whole


@pytest.mark.parametrize(
    ("answer", "size", "reason"),
    [
        (slow(b"HTTP/1.1 200 OK\r\nX-Slow: "), 1, "no end within 1 s"),
        (slow_taker(whole()), 1, "no end within 1 s|timed out"),
        (slow_taker(whole()), 64 << 20, "no end within 2 s|timed out"),
    ],
    ids=["a slow answer", "no answer", "a slow taker"],
)
def test_a_slow_store_ends_the_transfer(
    answer: Answer, size: int, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"ANSWER_SECONDS": 1, "LOWEST_RATE": 64 << 20, "ATTEMPTS": 1}.items():
        monkeypatch.setattr(transfer, name, value)
    with hostile_server() as server:
        server.answer = answer

        with pytest.raises(TransferFailed, match=reason):
            transfer._sender(None)("PUT", f"http://127.0.0.1:{server.port}/a", bytes(size), lambda answer: answer)


def test_a_store_that_answers_in_time_takes_the_part() -> None:
    with hostile_server() as server:
        server.answer = whole()

        url = f"http://127.0.0.1:{server.port}/a"
        assert transfer._sender(None)("PUT", url, b"part", lambda answer: answer.status) == 200
