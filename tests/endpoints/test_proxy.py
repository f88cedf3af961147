"""The proxy to a store on hosts of a twin: it leads to one address, and passes everything on."""

import socket

import pytest

from rackwright.endpoints.proxy import ProxiedChannel
from rackwright.hosts.tunnel import Tunnel

HEAD = b"CONNECT 10.0.0.1:8333 HTTP/1.1\r\nHost: 10.0.0.1:8333\r\n\r\n"


@pytest.fixture
def ends():
    """A proxied channel, and the other end of the connection behind it."""
    here, there = socket.socketpair()
    with there, here:
        there.settimeout(10)
        yield ProxiedChannel(here, "10.0.0.1", 8333), there


def test_a_client_that_names_the_store_reaches_it(ends):
    channel, store = ends
    with Tunnel(lambda: channel) as tunnel, socket.create_connection(("127.0.0.1", tunnel.port), 10) as client:
        client.sendall(HEAD[:20])
        client.sendall(HEAD[20:] + b"hello")
        assert store.recv(100) == b"hello"
        store.sendall(b"answer")
        received = b""
        while not received.endswith(b"answer"):
            received += client.recv(100)
    assert received == b"HTTP/1.1 200 Connection established\r\n\r\nanswer"


@pytest.mark.parametrize("head", [HEAD.replace(b"10.0.0.1", b"10.0.0.2"), HEAD.replace(b"8333", b"22"), b"x" * 9000])
def test_another_address_is_refused_and_nothing_passes(ends, head):
    channel, store = ends

    channel.sendall(head)

    assert channel.recv(100).startswith(b"HTTP/1.1 403")
    assert store.recv(100) == b""


def test_a_client_that_ends_early_leaves_no_waiting_thread(ends):
    channel, store = ends

    channel.sendall(HEAD[:10])
    channel.shutdown(socket.SHUT_WR)
    store.close()

    assert channel.recv(100) == b""
