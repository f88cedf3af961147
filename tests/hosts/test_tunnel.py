"""A port of this computer that leads to one which a host reaches."""

import os
import socket
import subprocess
import sys
import threading

import pytest

from rackwright.hosts import tunnel as tunnels
from rackwright.hosts.tunnel import Tunnel


@pytest.fixture
def own_account(monkeypatch):
    """Every connection is of this account; the kernel does not report one whose client sends no more."""
    monkeypatch.setattr(tunnels, "account_of", lambda peer, port: os.geteuid())


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


def test_each_connection_gets_its_own_channel_and_all_its_data(echo, own_account):
    """
    The end of the data goes through as well.
    """
    with Tunnel(lambda: socket.create_connection(echo)) as tunnel:
        assert ask(tunnel.port, b"one") == b"ONE"
        assert ask(tunnel.port, b"a" * 3_000_000) == b"A" * 3_000_000


def test_a_connection_that_cannot_be_made_is_closed_and_the_next_one_is_tried(echo, own_account):
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


ASK = """
import encodings.idna, os, socket, sys
os.setgid(int(sys.argv[2])), os.setuid(int(sys.argv[2]))
with socket.create_connection(("127.0.0.1", int(sys.argv[1])), 10) as client:
    try:
        print(client.recv(1) == b"")
    except ConnectionResetError:
        print(True)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a process of another account")
def test_another_account_is_refused_before_a_channel_is_opened():
    opened = []
    with Tunnel(lambda: opened.append(1)) as tunnel:
        argv = [sys.executable, "-I", "-S", "-c", ASK, str(tunnel.port), "65534"]
        done = subprocess.run(argv, capture_output=True, text=True, cwd="/", check=True)

    assert (done.stdout, opened) == ("True\n", [])


def test_the_number_of_channels_has_a_bound_and_each_end_makes_room(echo, monkeypatch):
    monkeypatch.setattr(tunnels, "CONNECTIONS_MAX", 2)
    opened = []

    def connect() -> socket.socket:
        opened.append(socket.create_connection(echo))
        return opened[-1]

    def connection() -> socket.socket:
        return socket.create_connection(("127.0.0.1", tunnel.port), timeout=10)

    with Tunnel(connect) as tunnel:
        with connection() as one, connection() as two, connection() as third:
            assert read_all(third) == b""
            for each in (one, two):
                each.sendall(b"a")
                each.shutdown(socket.SHUT_WR)
            assert [read_all(one), read_all(two)] == [b"A", b"A"]
        assert len(opened) == 2
