"""A port of this computer that leads to a port which a host reaches."""

import contextlib
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

_AT_ONCE = 1 << 16


class Tunnel:
    """A listening port on 127.0.0.1. Every connection to it gets a channel of its own, until the tunnel is closed."""

    def __init__(self, connect: Callable[[], Any]) -> None:
        """
        Args:
            connect: Opens a channel, which has `recv`, `sendall`, `shutdown` and `close` like a socket.
        """
        self._connect = connect
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: set[Any] = set()

    @property
    def port(self) -> int:
        """The number of the port."""
        port: int = self._listener.getsockname()[1]
        return port

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):  # without it, a thread that waits for a connection keeps the port open
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for end in tuple(self._open):
            end.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return  # closed
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.closing(client):
            try:
                channel = self._connect()
            except Exception:  # any error of the connection: the client sees a closed one, and tries again
                return
            ends = {client, channel}
            self._open |= ends
            back = threading.Thread(target=_copy, args=(channel, client), daemon=True)
            back.start()
            _copy(client, channel)
            back.join()
            channel.close()
            self._open -= ends


def _copy(source: Any, target: Any) -> None:
    """Send all data of *source* to *target*, then tell *target* that there is no more."""
    with contextlib.suppress(OSError, EOFError):  # one of the two has gone
        while data := source.recv(_AT_ONCE):
            target.sendall(data)
    with contextlib.suppress(OSError, EOFError):
        target.shutdown(socket.SHUT_WR)
