"""Watch the other pods of a run: a node that loses power closes no connection, and Gloo would wait for half an hour."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress

from workloads.training.plan import LaunchPlan

PORT = 29501
BEAT_SECONDS = 5.0
LOST_SECONDS = 30.0
"""Seconds without a sign of the other end, after which it is lost."""
_BEAT = b"."


@contextmanager
def watch_peers(
    plan: LaunchPlan, number: int, on_loss: Callable[[str], None], port: int = PORT, lost_seconds: float = LOST_SECONDS
) -> Iterator[None]:
    """Call *on_loss* with a reason if a pod that was there sends nothing for *lost_seconds*, while the context is open.

    The first pod accepts the connections of all others. A connection that the other end closes is no loss: its
    processes have ended by themselves, and their own connections say so.
    """
    if len(plan.hosts) == 1:
        yield
        return
    over = threading.Event()
    work = _accept if number == 0 else _connect
    address = "" if number == 0 else plan.hosts[0].address
    thread = threading.Thread(target=work, args=(address, port, lost_seconds, over, on_loss), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()


def _accept(address: str, port: int, seconds: float, over: threading.Event, on_loss: Callable[[str], None]) -> None:
    with socket.create_server((address, port)) as server:
        server.settimeout(seconds / 10)
        while not over.is_set():
            with suppress(TimeoutError):
                connection, (peer, *_) = server.accept()
                threading.Thread(target=_watch, args=(connection, peer, seconds, over, on_loss), daemon=True).start()


def _connect(address: str, port: int, seconds: float, over: threading.Event, on_loss: Callable[[str], None]) -> None:
    while not over.is_set():
        try:
            connection = socket.create_connection((address, port), seconds)
        except OSError:  # the first pod has not started yet, or starts again
            over.wait(seconds / 10)
            continue
        _watch(connection, address, seconds, over, on_loss)
        over.wait(seconds / 10)


def _watch(
    connection: socket.socket, peer: str, seconds: float, over: threading.Event, on_loss: Callable[[str], None]
) -> None:
    """Send and receive beats until an end closes the connection."""
    with closing(connection):
        connection.settimeout(min(BEAT_SECONDS, seconds / 6))
        heard = time.monotonic()
        while not over.is_set():
            try:
                connection.send(_BEAT)
                if not connection.recv(64):
                    return
                heard = time.monotonic()
                over.wait(min(BEAT_SECONDS, seconds / 6))
            except TimeoutError:
                pass
            except OSError as error:
                if not isinstance(error, ConnectionError) and not over.is_set():
                    on_loss(f"{peer} is lost: {error.strerror or error}")
                return
            if time.monotonic() - heard > seconds:
                on_loss(f"{peer} is lost: nothing came from it for {seconds:.0f} s")
                return
