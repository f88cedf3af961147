"""The program that measures the TCP rate between two hosts, and the interfaces that the traffic used.

The kernel selects the interface of a packet by its routes, not by its source address. Each side therefore reports how
much the byte counter of each interface grew.
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
"""Maximum wait of each side for the other."""


def receive(own: str, sender: str, streams: int) -> None:
    """Listen at *own*, print the port, receive *streams* connections from *sender* only, and print the counts."""
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
    before, began, counts = read_counters("rx_bytes"), time.monotonic(), [0] * streams

    def drain(number: int, connection: socket.socket) -> None:
        buffer = memoryview(bytearray(CHUNK_BYTES))
        connection.settimeout(PATIENCE_SECONDS)
        while count := connection.recv_into(buffer):
            counts[number] += count

    run_in_parallel(drain, connections)
    print_result(sum(counts), time.monotonic() - began, counter_increase(before, "rx_bytes"))


def send(own: str, receiver: str, port: int, streams: int, seconds: float) -> None:
    """Send from the address *own* over *streams* connections during *seconds*, and print the counts.

    Each connection sends at least one chunk: without a byte, no interface would be the one that the traffic used.
    """
    connections = [socket.create_connection((receiver, port), PATIENCE_SECONDS, (own, 0)) for _ in range(streams)]
    before, began, counts = read_counters("tx_bytes"), time.monotonic(), [0] * streams
    chunk = bytes(CHUNK_BYTES)

    def fill(number: int, connection: socket.socket) -> None:
        while not counts[number] or time.monotonic() - began < seconds:
            connection.sendall(chunk)
            counts[number] += len(chunk)
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1)  # returns when the receiver has read all and closes

    run_in_parallel(fill, connections)
    print_result(sum(counts), time.monotonic() - began, counter_increase(before, "tx_bytes"))


def run_in_parallel(work: Callable[[int, socket.socket], None], connections: list[socket.socket]) -> None:
    """Run *work* for all *connections* in parallel, and close them."""
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
        sys.exit(f"the stream was interrupted: {failures[0]}")


def read_counters(counter: str) -> dict[str, int]:
    """Return the value of *counter*, ``rx_bytes`` or ``tx_bytes``, of each interface."""
    return {
        path.name: int((path / "statistics" / counter).read_text()) for path in INTERFACES.iterdir() if path.is_dir()
    }


def counter_increase(before: dict[str, int], counter: str) -> dict[str, int]:
    """Return the increase of *counter* since *before*, for each interface with one."""
    return {
        name: count - before.get(name, 0)
        for name, count in read_counters(counter).items()
        if count > before.get(name, 0)
    }


def print_result(count: int, seconds: float, interfaces: dict[str, int]) -> None:
    print(json.dumps({"bytes": count, "seconds": seconds, "interfaces": interfaces}), flush=True)


if __name__ == "__main__":
    try:
        if sys.argv[1] == "receive":
            receive(sys.argv[2], sys.argv[3], int(sys.argv[4]))
        else:
            send(sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]), float(sys.argv[6]))
    except OSError as error:
        sys.exit(f"{' '.join(sys.argv[1:4])}: {error}")
