"""The way to a store on hosts of a twin: a proxy on this computer, through SSH to one of the hosts."""

import atexit
import threading
from importlib.resources import files
from typing import Any

from rackwright.errors import EndpointUnreachable, Unreachable
from rackwright.hosts.pool import Hosts
from rackwright.hosts.tunnel import Tunnel
from rackwright.schema.formats import parse_url
from rackwright.stack import Stack

_END = b"\r\n\r\n"
_HEAD_MAX = 8192
_ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
_REFUSED = b"HTTP/1.1 403 Forbidden\r\n\r\n"


def open_proxy(stack: Stack, host: str, url: str) -> str:
    """Return the address of a proxy that leads to the store at *url* through *host*, until the process ends.

    Raises:
        EndpointUnreachable: SSH does not reach the host.
    """
    address, hosts = parse_url(url), Hosts(stack.endpoints, stack.salt)
    name, port = address.hostname or "", address.port or 443
    try:
        hosts.connection(host)
    except Unreachable as error:
        raise EndpointUnreachable(*error.diagnostics) from error
    # not a port that SSH forwards: role access closes that
    program = files("rackwright.hosts.onhost").joinpath("relay.py").read_text()
    argv = ("python3", "-I", "-S", "-c", program, name, str(port))
    tunnel = Tunnel(lambda: ProxiedChannel(hosts.connection(host).open(argv), name, port))
    tunnel.__enter__()
    atexit.register(hosts.close)
    return f"http://127.0.0.1:{tunnel.port}"


class ProxiedChannel:
    """A channel to one address, for a client that speaks to an HTTP proxy. The client names the address first.

    Clients keep the address of the store in their requests, so signatures and names in certificates remain valid.
    """

    def __init__(self, channel: Any, address: str, port: int) -> None:
        """
        Args:
            channel: A channel with `recv`, `sendall`, `shutdown` and `close` like a socket.
            address: The only address that a client may name, with *port*.
        """
        self._channel, self._request = channel, f"CONNECT {address}:{port} HTTP/1.".encode()
        self._head = b""
        self._answer: bytes | None = None
        self._answered = threading.Event()

    def sendall(self, data: bytes) -> None:
        """Send *data* on; the client's first lines are for the proxy."""
        if self._answered.is_set():
            self._channel.sendall(data)
            return
        self._head += data
        head, end, rest = self._head.partition(_END)
        if not end and len(head) < _HEAD_MAX:
            return
        if not end or not head.startswith(self._request):
            self._reply(_REFUSED)
            self._channel.close()
            return
        self._reply(_ESTABLISHED)
        if rest:
            self._channel.sendall(rest)

    def recv(self, size: int) -> bytes:
        """Return the proxy's answer, and then data from the store; empty at the end."""
        self._answered.wait()
        answer, self._answer = self._answer, None
        if answer is not None:
            return answer
        data: bytes = self._channel.recv(size)
        return data

    def shutdown(self, how: int) -> None:
        """Send the end of the client's data on."""
        self._answered.set()
        self._channel.shutdown(how)

    def close(self) -> None:
        self._answered.set()
        self._channel.close()

    def _reply(self, answer: bytes) -> None:
        self._answer = answer
        self._answered.set()
