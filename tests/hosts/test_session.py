"""What a hostile host sends into a session: each line is an event within bounds, or the connection is given up."""

from types import SimpleNamespace

import pytest

from rackwright.hosts import session
from rackwright.hosts.session import Session


class Lost(Exception):
    pass


def receiving(*parts: bytes) -> Session:
    """Return a session whose host sends *parts*, and then the last of them for ever."""
    waiting = list(parts)
    made = object.__new__(Session)
    made._received = b""
    made._interrupted = lambda: False
    made._channel = SimpleNamespace(recv=lambda size: waiting.pop(0) if len(waiting) > 1 else waiting[0])
    made.connection = SimpleNamespace(connection_lost=Lost, endpoint=SimpleNamespace(host="gpu-01"))
    return made


def test_events_come_line_by_line() -> None:
    made = receiving(b'{"event": "re', b'ady"}\n{"event": "done"}\n')

    assert [made._event(), made._event()] == [{"event": "ready"}, {"event": "done"}]


def test_an_endless_line_is_abandoned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "EVENT_BYTES", 1 << 20)

    with pytest.raises(Lost, match="it sent more than 1 MiB"):
        receiving(b"x" * 65536)._event()


@pytest.mark.parametrize("line", [b"[" * 200_000, b"x", b"[1]", b'"a"', b"\xff", b"9" * 10_000])
def test_a_line_that_is_no_event_ends_the_stream(line: bytes) -> None:
    with pytest.raises(Lost, match="it sent a line that is no event"):
        receiving(line + b"\n")._event()
