"""The addresses on which KServe's protocol over gRPC is offered, beside those of HTTP."""

import asyncio
import os
import socket
from typing import Any

import psutil
import pytest

from tests.support.model_servers import Held, grpc_address, here
from workloads.errors import UserError
from workloads.serving import serve
from workloads.serving.grpc_front import GrpcFront
from workloads.serving.settings import ServingSettings

client = pytest.importorskip("tritonclient.grpc")


def answers_by(host: str, port: int) -> bool:
    """Return whether a program listens on a port."""
    try:
        socket.create_connection((host, port), timeout=5).close()
    except ConnectionRefusedError:
        return False
    return True


def free_port() -> int:
    with socket.create_server(("0.0.0.0", 0)) as probe:
        return int(probe.getsockname()[1])


def ports_of_others() -> set[int]:
    """Return the TCP ports on which other processes of this machine listen."""
    return {
        each.laddr.port
        for each in psutil.net_connections("tcp")
        if each.status == psutil.CONN_LISTEN and each.pid != os.getpid()
    }


@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize(
    ("host", "families"),
    [("0.0.0.0", "4"), ("127.0.0.1", "4"), ("localhost", "4"), ("::1", "6"), ("::", "46")],
)
def test_both_ports_listen_on_the_same_families(host: str, families: str, fixed: bool) -> None:
    """
    gRPC takes 0.0.0.0 for all addresses of both families, and localhost for two.
    """
    settings = ServingSettings(host=host, port=0, anybody=True)
    # another program may listen on the same port by the other family, and then answers for these
    for _ in range(5):
        with here(Held(), grpc_port=free_port() if fixed else 0, host=host, anybody=True) as server:
            with serve._bind(settings) as http:
                http.listen()
                ports = [int(grpc_address(server).rpartition(":")[2]), http.getsockname()[1]]
                found = [[answers_by(each, port) for each in ("127.0.0.1", "::1")] for port in ports]
                others = ports_of_others()
            target = f"{'127.0.0.1' if '4' in families else '[::1]'}:{ports[0]}"
            assert client.InferenceServerClient(target).is_server_live()
        if others.isdisjoint(ports):
            break
    else:
        pytest.fail("other programs listened on the same ports each time")
    assert found == [["4" in families, "6" in families]] * 2


def test_a_port_that_is_taken_by_ipv6_alone_is_an_error() -> None:
    with socket.socket(socket.AF_INET6) as taken:
        taken.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        taken.bind(("::", 0))
        taken.listen()
        front = GrpcFront(Any, ServingSettings(host="0.0.0.0", anybody=True, grpc_port=taken.getsockname()[1]))

        async def start() -> None:
            await front.start()

        with pytest.raises(UserError, match="the server cannot listen on 0.0.0.0:"):
            asyncio.run(start())
