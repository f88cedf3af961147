"""A server on loopback that answers each request with the bytes of a test, and the memory that their reader takes."""

import contextlib
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

Answer = Callable[[socket.socket], None]
DRIP_SECONDS = 0.05
"""Time between two bytes of a slow answer, far below each time limit of a socket."""
BLOCK = b"0" * (1 << 20)


@dataclass
class HostileServer:
    """A running server."""

    port: int
    requests: list[bytes] = field(default_factory=list)
    """The head of each request."""
    answer: Answer = lambda connection: None
    """The answer to every request."""


def whole(body: bytes = b"", status: str = "200 OK", **headers: str) -> Answer:
    """Return an answer with *body* and its length."""
    lines = {"Content-Length": str(len(body)), **{name.replace("_", "-"): text for name, text in headers.items()}}
    head = "".join(f"{name}: {text}\r\n" for name, text in lines.items())
    return lambda connection: connection.sendall(f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body)


def endless(head: bytes, block: bytes = BLOCK, blocks: int = 400) -> Answer:
    """Return an answer that sends *block* after its *head*, again and again, until the reader goes away."""

    def send(connection: socket.socket) -> None:
        connection.sendall(head)
        for _ in range(blocks):
            connection.sendall(block)

    return send


def slow(head: bytes, text: bytes = b"a") -> Answer:
    """Return an answer that sends *head*, and then one byte at a time for ever."""

    def send(connection: socket.socket) -> None:
        connection.sendall(head)
        while True:
            for each in text:
                connection.sendall(bytes((each,)))
                time.sleep(DRIP_SECONDS)

    return send


def slow_taker(answer: Answer) -> Answer:
    """Return an answer that takes the body of a request a byte at a time, for ever."""

    def take(connection: socket.socket) -> None:
        while connection.recv(1):
            time.sleep(DRIP_SECONDS)
        answer(connection)

    return take


@contextlib.contextmanager
def hostile_server(context: ssl.SSLContext | None = None) -> Iterator[HostileServer]:
    """Run a server; with *context*, one of HTTPS."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = HostileServer(listening.getsockname()[1])

    def serve(connection: socket.socket) -> None:
        with (
            contextlib.suppress(OSError),
            connection,
            context.wrap_socket(connection, server_side=True) if context else connection as wrapped,
        ):
            head = b""
            while b"\r\n\r\n" not in head and (part := wrapped.recv(65536)):
                head += part
            server.requests.append(head)
            server.answer(wrapped)
            wrapped.shutdown(socket.SHUT_WR)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listening.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield server
    finally:
        listening.close()


def peak_growth_mib(action: Callable[[], None]) -> float:
    """Return the MiB by which the peak of this process's memory exceeds its memory before *action*."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins again. Source: proc(5)
    before = _kib("VmRSS")
    action()
    return (_kib("VmHWM") - before) / 1024


def _kib(name: str) -> int:
    [value] = re.findall(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(value)
