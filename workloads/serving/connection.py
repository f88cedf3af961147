"""A client's connection, which may not be held open by saying little, nor memory be filled by saying much.

uvicorn limits neither how long the first lines of a request take nor how long they are.
"""

from asyncio import TimerHandle, Transport
from collections.abc import Callable

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_BYTES = 64 << 10


def limited(head_seconds: float) -> Callable[..., HttpToolsProtocol]:
    """Return the protocol of a connection whose requests have to have begun within *head_seconds*."""

    class Connection(HttpToolsProtocol):
        _timer: TimerHandle | None = None
        _head = 0
        """Bytes of a head that has not ended; 0 outside of one."""

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
            self._ended()
            super().on_headers_complete()

        def connection_lost(self, error: Exception | None) -> None:
            self._ended()
            super().connection_lost(error)

        def _ended(self) -> None:
            self._head = 0
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

        def _refuse(self, status: int, reason: bytes) -> None:
            self._ended()
            if not self.transport.is_closing():
                self.transport.write(
                    b"HTTP/1.1 %d %b\r\ncontent-length: 0\r\nconnection: close\r\n\r\n" % (status, reason)
                )
                self.transport.close()

    return Connection
