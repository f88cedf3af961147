"""Who may call the provider: this account alone, by what the kernel says of the connection."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import pytest
from google.protobuf import empty_pb2
from pulumi.runtime.proto import plugin_pb2, provider_pb2, provider_pb2_grpc

from rackwright.hosts import peer_account
from rackwright.hosts.peer_account import account_of
from rackwright.provider.protocol import Provider
from rackwright.provider.resource import Resources
from rackwright.provider.server import serve
from rackwright.provider.site import Sites
from tests.support.foreign_caller import CALL, NOBODY

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a process of another account")
CONNECT = """
import encodings.idna, os, socket, sys
os.setgid(65534), os.setuid(65534)
connection = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
print(connection.getsockname()[1], flush=True)
sys.stdin.read()
"""


@pytest.fixture(params=["sock_diag", "tables"])
def way(request, monkeypatch):
    """Each of the two ways to ask the kernel, by itself."""
    other = "_in_tables" if request.param == "sock_diag" else "_ask_kernel"
    monkeypatch.setattr(peer_account, other, lambda *ends: None)


@contextmanager
def listening() -> Iterator[tuple[socket.socket, int]]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        yield server, server.getsockname()[1]


@pytest.mark.parametrize("address", ["127.0.0.1", "::ffff:127.0.0.1"])
def test_a_connection_of_this_account_is_its_own(way, address):
    """
    A program that speaks IPv6 alone names an IPv4 address by the one that maps it.
    """
    with listening() as (server, port), socket.create_connection((address, port)) as client:
        accepted, _ = server.accept()
        assert account_of(f"ipv4:127.0.0.1:{client.getsockname()[1]}", port) == os.geteuid()
        accepted.close()


def test_a_connection_over_ipv6_is_found(way):
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("::1", port)) as client:
            assert account_of(f"ipv6:%5B::1%5D:{client.getsockname()[1]}", port) == os.geteuid()


@as_root
def test_a_connection_of_another_account_is_that_accounts(way):
    with listening() as (server, port):
        argv = [sys.executable, "-c", CONNECT, str(port)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with subprocess.Popen(argv, text=True, **pipes) as process:
            accepted, _ = server.accept()
            assert account_of(f"ipv4:127.0.0.1:{process.stdout.readline().strip()}", port) == NOBODY
            process.stdin.close()
            accepted.close()


def test_a_closed_connection_has_no_account(way):
    """
    The kernel says 0 of its account, which is root: so a call that closes at once would pass as root's.
    """
    with listening() as (server, port):
        client = socket.create_connection(("127.0.0.1", port))
        peer = f"ipv4:127.0.0.1:{client.getsockname()[1]}"
        accepted, _ = server.accept()
        client.close()
        half_closed = account_of(peer, port)
        accepted.close()
        assert (half_closed, account_of(peer, port)) == (None, None)


def test_the_listener_itself_is_no_caller(way):
    with listening() as (_, port):
        assert account_of(f"ipv4:127.0.0.1:{port}", port) is None


@pytest.mark.parametrize(
    "peer",
    [
        "",
        "unix:",
        "unix:/run/socket",
        "ipv4:192.0.2.1:40000",
        "ipv4:127.0.0.1",
        "ipv4:127.0.0.1:x",
        "ipv6:%5Bfe80::1%5D:1",
    ],
)
def test_a_peer_that_is_no_local_connection_has_no_account(peer):
    assert account_of(peer, 1) is None


def test_without_a_report_of_the_kernel_no_program_may_be_called(monkeypatch):
    """
    As where /proc is of another namespace.
    """
    monkeypatch.setattr(peer_account, "_ask_kernel", lambda *ends: None)
    monkeypatch.setattr(peer_account, "TABLES", ("/nowhere",))
    with provider() as port:
        assert code_of(port, "GetPluginInfo", empty_pb2.Empty()) == "PERMISSION_DENIED"


@contextmanager
def provider(engine_address: str = "") -> Iterator[int]:
    """Serve a provider without kinds, and return its port."""

    def none(stack, secrets):
        raise AssertionError("a site was opened")

    sites = Sites(none)
    server, port = serve(Provider(Resources({}, sites), sites, engine_address))
    try:
        yield port
    finally:
        server.stop(0).wait()


def code_of(port: int, name: str, request: object) -> str:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        try:
            getattr(provider_pb2_grpc.ResourceProviderStub(channel), name)(request, timeout=60)
        except grpc.RpcError as error:
            return error.code().name
    return "OK"


@as_root
def test_another_account_gets_no_answer_to_any_call():
    with provider() as port:
        assert code_of(port, "GetPluginInfo", empty_pb2.Empty()) == "OK"
        done = subprocess.run([sys.executable, "-c", CALL, str(port)], text=True, capture_output=True)
    answers = dict(line.split() for line in done.stdout.splitlines())
    assert len(answers) == 7, done.stderr
    assert set(answers.values()) == {"PERMISSION_DENIED"}


def test_secrets_are_taken_once_from_each_engine():
    """
    An engine that attaches to a provider, which a person has started then, gives secrets of its own.
    """
    request = provider_pb2.ConfigureRequest(urn="urn:pulumi:lab::rackwright::pulumi:providers:rackwright::default")
    with provider("127.0.0.1:1") as port:
        assert [code_of(port, "Configure", request) for _ in range(2)] == ["OK", "FAILED_PRECONDITION"]
        code_of(port, "Attach", plugin_pb2.PluginAttach(address="127.0.0.1:1"))
        assert [code_of(port, "Configure", request) for _ in range(2)] == ["OK", "FAILED_PRECONDITION"]


def test_no_method_of_ours_is_a_stream():
    """
    The check is made for plain calls; a stream is answered as one that is not there.
    """
    methods = provider_pb2.DESCRIPTOR.services_by_name["ResourceProvider"].methods
    streams = {method.name for method in methods if method.client_streaming or method.server_streaming}
    assert not streams & vars(Provider).keys()
