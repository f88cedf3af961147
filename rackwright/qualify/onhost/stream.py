"""Runs on two hosts: how fast bytes get from one to the other over TCP, and over which interfaces they really went.

The kernel decides by its routes how a packet leaves, whatever address it has: so each side looks at what its interfaces
have counted, and tells how much went over each.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

INTERFACES = Path("/sys/class/net")
CHUNK_BYTES = 1 << 20
PATIENCE_SECONDS = 30
"""How long each side waits for the other."""


def receive(own: str, sender: str, streams: int) -> None:
    """Listen at the address *own*, print the port, take so many *streams* from *sender* alone, and print what came."""
    family = socket.AF_INET6 if ":" in own else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.bind((own, 0))
        listener.listen(streams)
        listener.settimeout(PATIENCE_SECONDS)
        print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
        connections: list[socket.socket] = []
        while len(connections) < streams:
            connection, peer = listener.accept()
            if peer[0] == sender:
                connections.append(connection)
            else:
                connection.close()
    before, began, counts = counted("rx_bytes"), time.monotonic(), [0] * streams

    def drain(number: int, connection: socket.socket) -> None:
        buffer = memoryview(bytearray(CHUNK_BYTES))
        connection.settimeout(PATIENCE_SECONDS)
        while count := connection.recv_into(buffer):
            counts[number] += count

    at_once(drain, connections)
    tell(sum(counts), time.monotonic() - began, moved(before, "rx_bytes"))


def send(own: str, receiver: str, port: int, streams: int, seconds: float) -> None:
    """Send from the address *own* over so many *streams* for so many *seconds*, and print what went."""
    connections = [socket.create_connection((receiver, port), PATIENCE_SECONDS, (own, 0)) for _ in range(streams)]
    before, began, counts = counted("tx_bytes"), time.monotonic(), [0] * streams
    chunk = bytes(CHUNK_BYTES)

    def fill(number: int, connection: socket.socket) -> None:
        while time.monotonic() - began < seconds:
            connection.sendall(chunk)
            counts[number] += len(chunk)
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1)  # until the other side has taken all, and closes

    at_once(fill, connections)
    tell(sum(counts), time.monotonic() - began, moved(before, "tx_bytes"))


def at_once(work: Callable[[int, socket.socket], None], connections: list[socket.socket]) -> None:
    """Do *work* for each of the *connections* at the same time, and close them."""
    failures: list[BaseException] = []

    def one(number: int, connection: socket.socket) -> None:
        try:
            with connection:
                work(number, connection)
        except OSError as error:
            failures.append(error)

    threads = [threading.Thread(target=one, args=each) for each in enumerate(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        sys.exit(f"the stream was cut off: {failures[0]}")


def counted(what: str) -> dict[str, int]:
    """Return what each interface has counted of *what*, ``rx_bytes`` or ``tx_bytes``."""
    return {path.name: int((path / "statistics" / what).read_text()) for path in INTERFACES.iterdir() if path.is_dir()}


def moved(before: dict[str, int], what: str) -> dict[str, int]:
    """Return how far the interfaces have counted since *before*."""
    return {name: count - before.get(name, 0) for name, count in counted(what).items() if count > before.get(name, 0)}


def tell(count: int, seconds: float, over: dict[str, int]) -> None:
    print(json.dumps({"bytes": count, "seconds": seconds, "interfaces": over}), flush=True)


if __name__ == "__main__":
    try:
        if sys.argv[1] == "receive":
            receive(sys.argv[2], sys.argv[3], int(sys.argv[4]))
        else:
            send(sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]), float(sys.argv[6]))
    except OSError as error:
        sys.exit(f"{' '.join(sys.argv[1:4])}: {error}")
