"""Limits on the head of an HTTP request: seconds until it is complete, its size in bytes, and one `Host`.

uvicorn has none of them: a slow client could hold connections open, a long head could fill the memory, and a proxy
could read another host than the server.
"""

from asyncio import TimerHandle, Transport
from collections.abc import Callable

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_BYTES = 64 << 10


def protocol_with_limits(head_seconds: float) -> Callable[..., HttpToolsProtocol]:
    """Return the class of connections that close if a request's head takes longer than *head_seconds*."""

    class TimedConnection(HttpToolsProtocol):
        _timer: TimerHandle | None = None
        _head = 0
        """Bytes of the head that is being received; 0 outside a head."""

        def connection_made(self, transport: Transport) -> None:
            super().connection_made(transport)
            self._timer = self.loop.call_later(head_seconds, self._refuse, 408, b"Request Timeout")

        def data_received(self, data: bytes) -> None:
            if self._timer is None and (self.cycle is None or self.cycle.response_complete):
                self._timer = self.loop.call_later(head_seconds, self._refuse, 408, b"Request Timeout")
            super().data_received(data)
            if self._timer is not None:
                self._head += len(data)
                if self._head > HEAD_BYTES:
                    self._refuse(431, b"Request Header Fields Too Large")

        def on_headers_complete(self) -> None:
            self._stop_timer()
            hosts = sum(name == b"host" for name, _ in self.headers)
            if hosts > 1 or (not hosts and self.parser.get_http_version() == "1.1"):
                raise ValueError("one Host is required")  # the parser answers 400, as RFC 9112 has it
            super().on_headers_complete()

        def connection_lost(self, error: Exception | None) -> None:
            self._stop_timer()
            super().connection_lost(error)

        def _stop_timer(self) -> None:
            self._head = 0
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

        def _refuse(self, status: int, reason: bytes) -> None:
            self._stop_timer()
            if not self.transport.is_closing():
                self.transport.write(
                    b"HTTP/1.1 %d %b\r\ncontent-length: 0\r\nconnection: close\r\n\r\n" % (status, reason)
                )
                self.transport.close()

    return TimedConnection
