"""A port of this computer that leads to a port which a host reaches."""

import contextlib
import os
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from rackwright.hosts.peer_account import account_of

CONNECTIONS_MAX = 64
"""Maximum connections at a time; each has a channel, and often a program on the host."""
_AT_ONCE = 1 << 16


class Tunnel:
    """A listening port on 127.0.0.1. Each connection of this process's account gets a channel, until the end.

    Connections of other accounts, and those above the maximum, are closed before a channel is opened.
    """

    def __init__(self, connect: Callable[[], Any]) -> None:
        """
        Args:
            connect: Opens a channel, which has `recv`, `sendall`, `shutdown` and `close` like a socket.
        """
        self._connect = connect
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: set[Any] = set()
        self._number: int = self._listener.getsockname()[1]
        self._free = threading.BoundedSemaphore(CONNECTIONS_MAX)

    @property
    def port(self) -> int:
        """The number of the port."""
        return self._number

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
                client, (address, port) = self._listener.accept()
            except OSError:
                return  # closed
            if account_of(f"ipv4:{address}:{port}", self.port) != os.geteuid() or not self._free.acquire(
                blocking=False
            ):
                client.close()
                continue
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.ExitStack() as ends_with:
            ends_with.callback(self._free.release)
            ends_with.callback(client.close)
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
