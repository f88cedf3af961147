"""A port of this computer that leads to one which a host reaches."""

import socket
import threading

import pytest

from rackwright.hosts.tunnel import Tunnel


@pytest.fixture
def echo():
    """Return the address of a server that sends back what it got, once the client sends no more."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                with client:
                    client.sendall(read_all(client).upper())

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()


def read_all(end: socket.socket) -> bytes:
    return b"".join(iter(lambda: end.recv(1 << 16), b""))


def ask(port: int, data: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        return read_all(client)


def test_each_connection_gets_its_own_channel_and_all_its_data(echo):
    """
    The end of the data goes through as well.
    """
    with Tunnel(lambda: socket.create_connection(echo)) as tunnel:
        assert ask(tunnel.port, b"one") == b"ONE"
        assert ask(tunnel.port, b"a" * 3_000_000) == b"A" * 3_000_000


def test_a_connection_that_cannot_be_made_is_closed_and_the_next_one_is_tried(echo):
    """
    A host that drops one connection ends nothing else.
    """
    errors = [OSError("refused")]

    def connect() -> socket.socket:
        if errors:
            raise errors.pop()
        return socket.create_connection(echo)

    with Tunnel(connect) as tunnel:
        assert ask(tunnel.port, b"") == b""
        assert ask(tunnel.port, b"two") == b"TWO"


def test_after_its_end_nothing_listens(echo):
    """
    The port is on the loopback interface alone.
    """
    with Tunnel(lambda: socket.create_connection(echo)) as tunnel:
        port = tunnel.port
    with pytest.raises(ConnectionRefusedError):
        ask(port, b"late")
