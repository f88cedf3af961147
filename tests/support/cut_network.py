"""A proxy on loopback that cuts all its connections after a number of bytes."""

import contextlib
import socket
import threading
from types import TracebackType
from typing import Self

BLOCK_BYTES = 1 << 14


class CutNetwork:
    """A port that leads to another one, until so many bytes have passed to it; from then on it resets connections."""

    def __init__(self, port: int) -> None:
        self._target, self._left = port, -1
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def cut_after(self, count: int) -> None:
        """Let *count* more bytes pass, and then none."""
        with self._lock:
            self._left = count

    def mend(self) -> None:
        """Let all bytes pass."""
        with self._lock:
            self._left = -1

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._target), 10)
            except OSError:  # the server is down
                client.close()
                continue
            for ends in ((client, server, True), (server, client, False)):
                threading.Thread(target=self._copy, args=ends, daemon=True).start()

    def _copy(self, source: socket.socket, target: socket.socket, counted: bool) -> None:
        with contextlib.suppress(OSError):
            while (data := source.recv(BLOCK_BYTES)) and self._may_pass(len(data) if counted else 0):
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _may_pass(self, count: int) -> bool:
        with self._lock:
            if self._left < 0:
                return True
            self._left = max(self._left - count, 0)
            return self._left > 0
