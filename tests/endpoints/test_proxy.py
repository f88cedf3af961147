"""The proxy to a store on hosts of a twin: it leads to one address, and passes everything on."""

import socket
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest

from rackwright.endpoints import proxy
from rackwright.endpoints.proxy import ProxiedChannel
from rackwright.hosts.tunnel import Tunnel
from tests.support.sources import ROOT

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


def test_the_way_needs_no_forwarding_of_ports(monkeypatch):
    """
    Role access closes it, and the buckets of a store on the same host were not reached from then on.
    """
    opened = []

    class Connection:
        def open(self, argv):
            opened.append(argv)
            process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            here, there = socket.socketpair()
            threading.Thread(target=copy, args=(there.makefile("rb"), process.stdin), daemon=True).start()
            threading.Thread(target=copy, args=(process.stdout, there.makefile("wb")), daemon=True).start()
            return here

    def copy(source, target):
        while data := source.read1(1000):
            target.write(data)
            target.flush()

    monkeypatch.setattr(proxy, "Hosts", lambda *_: SimpleNamespace(connection=lambda host: Connection(), close=list))
    with socket.create_server(("127.0.0.1", 0)) as store:
        port = store.getsockname()[1]
        way = proxy.open_proxy(SimpleNamespace(endpoints={}, salt=b""), "alpha", f"https://127.0.0.1:{port}")
        with socket.create_connection(("127.0.0.1", int(way.rpartition(":")[2])), 10) as client:
            client.sendall(f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\n\r\nhello".encode())
            served, _ = store.accept()
            with served:
                served.settimeout(10)
                assert served.recv(100) == b"hello"
                served.sendall(b"answer")
            received = b""
            while not received.endswith(b"answer"):
                received += client.recv(100)
    assert opened[0][-2:] == ("127.0.0.1", str(port))


def test_the_relay_ends_with_its_client():
    """A store may keep its end open for long, and each relay is a program of root's on the host."""
    program = ROOT / "rackwright/hosts/onhost/relay.py"
    with socket.create_server(("127.0.0.1", 0)) as store:
        argv = [sys.executable, "-I", "-S", str(program), "127.0.0.1", str(store.getsockname()[1])]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as relay:
            served, _ = store.accept()
            with served:
                relay.stdin.close()
                try:
                    assert relay.wait(30) == 0
                finally:
                    relay.kill()
