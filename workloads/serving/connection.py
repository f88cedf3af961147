"""Limits on the head of an HTTP request: seconds until it is complete, its size in bytes, and one `Host`.

uvicorn has none of them: a slow client could hold connections open, a long head could fill the memory, and a proxy
could read another host than the server.
"""

from asyncio import TimerHandle, Transport
from collections.abc import Callable

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_BYTES = 64 << 10
REST_SECONDS, REST_BYTES = 2.0, 1 << 20
"""Limits on the rest of a head that is too long. It is read and dropped: a close with unread bytes resets the
connection, and the sender would not see the answer."""


def protocol_with_limits(head_seconds: float) -> Callable[..., HttpToolsProtocol]:
    """Return the class of connections that close if a request's head takes longer than *head_seconds*."""

    class TimedConnection(HttpToolsProtocol):
        _timer: TimerHandle | None = None
        _head = 0
        """Bytes of the head that is being received; 0 outside a head."""
        _rest: int | None = None
        """Bytes that may still arrive after a head that is too long; None before it."""

        def connection_made(self, transport: Transport) -> None:
            super().connection_made(transport)
            self._timer = self.loop.call_later(head_seconds, self._refuse, 408, b"Request Timeout")

        def data_received(self, data: bytes) -> None:
            if self._rest is not None:
                self._rest -= len(data)
                if self._rest < 0:
                    self.transport.close()
                return
            if self._timer is None and (self.cycle is None or self.cycle.response_complete):
                self._timer = self.loop.call_later(head_seconds, self._refuse, 408, b"Request Timeout")
            super().data_received(data)
            if self._timer is not None:
                self._head += len(data)
                if self._head > HEAD_BYTES:
                    self._refuse_head()

        def on_headers_complete(self) -> None:
            self._stop_timer()
            if sum(len(name) + len(value) for name, value in self.headers) > HEAD_BYTES:
                self._refuse_head()  # it has arrived in one piece
                raise ValueError("the head is too long")
            hosts = sum(name == b"host" for name, _ in self.headers)
            if hosts > 1 or (not hosts and self.parser.get_http_version() == "1.1"):
                raise ValueError("one Host is required")  # the parser answers 400, as RFC 9112 has it
            super().on_headers_complete()

        def send_400_response(self, msg: str) -> None:
            if self._rest is None:
                super().send_400_response(msg)

        def connection_lost(self, error: Exception | None) -> None:
            self._stop_timer()
            super().connection_lost(error)

        def _stop_timer(self) -> None:
            self._head = 0
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

        def _refuse_head(self) -> None:
            if self._rest is None:
                self._rest = REST_BYTES
                self._refuse(431, b"Request Header Fields Too Large")

        def _refuse(self, status: int, reason: bytes) -> None:
            self._stop_timer()
            if not self.transport.is_closing():
                self.transport.write(
                    b"HTTP/1.1 %d %b\r\ncontent-length: 0\r\nconnection: close\r\n\r\n" % (status, reason)
                )
                if self._rest is None:
                    self.transport.close()
                else:
                    self._timer = self.loop.call_later(REST_SECONDS, self.transport.close)

    return TimedConnection
