"""Connections of the server: limits of bodies, queue and time, and clients that are slow, broken or gone."""

import asyncio
import contextlib
import gzip
import json
import socket
import threading
from http.client import HTTPConnection
from typing import Any

import numpy as np
import pytest

from tests.support.model_servers import HELD, ONE, Background, Held, Here, ask, eventually, here, request
from workloads.serving import body as bodies
from workloads.serving import offload, serve, wire
from workloads.serving.settings import ServingSettings

POST = b"POST " + HELD.encode() + b" HTTP/1.1\r\nHost: x\r\n"


def raw(server: Here, *parts: bytes) -> bytes:
    """Send *parts* as they are, and return all that comes until the server closes the connection."""
    with socket.create_connection(server.address, timeout=60) as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it has heard enough
            for part in parts:
                connection.sendall(part)
        got = b""
        while part := connection.recv(65536):
            got += part
        return got


def test_a_body_that_is_too_large_is_refused_with_its_length_or_without(free: Here) -> None:
    for chunked in (False, True):
        connection = HTTPConnection(*free.address, timeout=60)
        body = iter([b" " * 4096, b" "]) if chunked else b" " * 4097
        connection.request("POST", HELD, body, encode_chunked=chunked)
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (413, b'{"error":"the body is larger than 4096 bytes"}')
        connection.close()


@pytest.mark.parametrize("tail", [b"", np.zeros((1, 2), "<f4").tobytes()])
def test_a_compressed_body_is_read_as_its_sender_wrote_it(free: Here, tail: bytes) -> None:
    """Triton's client compresses JSON and tensors together, and counts the JSON as it was before."""
    report = json.loads(ONE)
    if tail:
        report["inputs"][0] |= {"data": None, "parameters": {"binary_data_size": len(tail)}}
    head = json.dumps(report).encode()
    headers = {"content-encoding": "gzip", **({"inference-header-content-length": str(len(head))} if tail else {})}
    answer = ask(free.address, HELD, gzip.compress(head + tail), headers)
    assert (answer.status, answer.json["outputs"][0]["data"]) == (200, [0, 0])
    bomb = ask(free.address, HELD, gzip.compress(bytes(1 << 20)), {"content-encoding": "gzip"})
    assert (bomb.status, bomb.json["error"]) == (413, "the body is larger than 4096 bytes")
    other = ask(free.address, HELD, ONE, {"content-encoding": "zstd"})
    assert (other.status, other.headers["accept-encoding"]) == (415, "identity, gzip, deflate")


def test_who_asks_before_he_sends_too_much_need_not_send(free: Here) -> None:
    got = raw(free, POST + b"Content-Length: 99999\r\nExpect: 100-continue\r\n\r\n")
    assert got.startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\0\1\2\r\n\r\n", b"400"),
        (b"GET / HTTP/9.9\r\n\r\n", b"400"),
        (b"GET /health HTTP/1.1\r\n\r\n", b"400"),
        (b"GET /health HTTP/1.1\r\nHost: x\r\nHOST: y\r\n\r\n", b"400"),
        (POST + b"Content-Length: -5\r\n\r\n", b"400"),
        (POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", b"400"),
        (POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", b"400"),
        (b"GET /health HTTP/1.1\r\n" + b"a: b\r\n" * 20_000, b"431"),
        (b"GET /" + b"a" * 100_000, b"431"),
        (b"GET /health HTTP/1.1\r\nHost: x\r\nbig: " + b"a" * 100_000 + b"\r\n\r\n", b"431"),
        (b"GET /health HTTP/1.1\r\nHost: x\r\nbig: " + b"a" * 900_000 + b"\r\n\r\n", b"431"),
    ],
)
def test_what_is_no_http_is_answered_and_closed(free: Here, sent: bytes, status: bytes) -> None:
    assert raw(free, sent).startswith(b"HTTP/1.1 " + status)
    assert ask(free.address, "/health").status == 200


def test_a_head_without_an_end_is_not_read_for_ever(free: Here) -> None:
    with socket.create_connection(free.address, timeout=60) as client, contextlib.suppress(ConnectionError):
        for _ in range(1000):
            client.sendall(b"a" * 100_000)
        raise AssertionError("the server reads 100 MB of a head")


def test_http_1_0_needs_no_host(free: Here) -> None:
    assert raw(free, b"GET /health HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 200 ")


def test_slow_clients_are_let_go_and_others_do_not_notice() -> None:
    runtime = Held()
    runtime.go.release()
    with here(runtime, head_seconds=0.2, body_seconds=0.2) as server:
        silent = raw(server)
        halfway = raw(server, b"GET /health HT")
        dribble = raw(server, POST + b"Content-Length: 100\r\n\r\n{")
        assert ask(server.address, HELD, ONE).status == 200

    assert silent.startswith(b"HTTP/1.1 408 ")
    assert halfway.startswith(b"HTTP/1.1 408 ")
    assert dribble.startswith(b"HTTP/1.1 408 ")
    assert b"the body did not arrive within 0.2 s" in dribble


def test_a_connection_that_is_kept_may_be_silent_between_requests() -> None:
    with here(Held(), head_seconds=0.05) as server:
        connection = HTTPConnection(*server.address, timeout=60)
        connection.request("GET", "/health")
        assert connection.getresponse().read() == b'{"live":true}'
        assert raw(server).startswith(b"HTTP/1.1 408 "), "time has passed for who had not asked yet"
        connection.request("GET", "/health")
        assert connection.getresponse().status == 200
        connection.close()


def test_while_a_large_body_is_read_others_are_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Two large bodies are read one after the other; a small one does not wait for them.
    """
    reading, go, read = threading.Semaphore(0), threading.Event(), wire.read

    def slow(content: bytes, *arguments: Any) -> wire.InferenceRequest:
        if len(content) > offload.SMALL_BYTES:
            reading.release()
            assert go.wait(60)
        return read(content, *arguments)

    monkeypatch.setattr(wire, "read", slow)
    runtime, background = Held(), Background()
    for _ in range(10):
        runtime.go.release()
    large = ONE + b" " * offload.SMALL_BYTES
    with here(runtime) as server:
        background.ask(server.address, HELD, large)
        background.ask(server.address, HELD, large)
        assert reading.acquire(timeout=60)
        assert ask(server.address, "/health").status == 200
        assert ask(server.address, HELD, ONE).status == 200
        assert not reading.acquire(blocking=False)
        go.set()
        assert [answer.status for answer in background.all()] == [200, 200]


def test_bodies_of_all_connections_together_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Slow uploads hold what has come of them; once they are gone, there is room again.
    """
    monkeypatch.setattr(bodies, "MAX_BODIES", 1)
    runtime = Held()
    runtime.go.release()
    part = b" " * 600
    with here(runtime, body_bytes=1000) as server:
        with socket.create_connection(server.address) as slow:
            slow.sendall(POST + b"Content-Length: 900\r\n\r\n" + part)
            eventually(lambda: bodies.BufferedBodies.bytes == 600)
            answer = ask(server.address, HELD, ONE + b" " * 600)
            assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        eventually(lambda: bodies.BufferedBodies.bytes == 0)
        assert ask(server.address, HELD, ONE + b" " * 600).status == 200
    assert bodies.BufferedBodies.bytes == 0


def test_a_large_body_that_has_no_turn_in_time_gets_504(monkeypatch: pytest.MonkeyPatch) -> None:
    go, read = threading.Event(), wire.read

    def slow(*arguments: Any) -> wire.InferenceRequest:
        assert go.wait(60)
        return read(*arguments)

    monkeypatch.setattr(wire, "read", slow)
    with here(Held(), deadline_seconds=0.2) as server:
        answer = ask(server.address, HELD, ONE + b" " * offload.SMALL_BYTES)
        go.set()

    assert (answer.status, answer.json) == (504, {"error": "no answer within 0.2 s"})


def test_a_client_that_leaves_before_its_answer_harms_no_other() -> None:
    runtime = Held()
    with here(runtime) as server:
        with socket.create_connection(server.address) as connection:
            connection.sendall(POST + b"Content-Length: %d\r\n\r\n%b" % (len(ONE), ONE))
            assert runtime.began.acquire(timeout=60)
        for _ in range(2):
            runtime.go.release()
        assert ask(server.address, HELD, ONE).status == 200


def test_a_full_queue_is_429_and_says_when_to_come_back() -> None:
    runtime, background = Held(), Background()
    with here(runtime, queue=3) as server:
        background.ask(server.address, HELD, ONE)
        assert runtime.began.acquire(timeout=60)
        for _ in range(3):
            background.ask(server.address, HELD, ONE)
        eventually(lambda: server.figure("rackwright_server_queue_requests") == 3)
        full = ask(server.address, HELD, ONE)
        for _ in range(2):
            runtime.go.release()
        assert [answer.status for answer in background.all()] == [200] * 4
    assert full.status == 429
    assert int(full.headers["retry-after"]) >= 1
    assert runtime.batches == [1, 3], "those that waited went together"


def test_a_deadline_that_passes_is_504_and_frees_its_place() -> None:
    runtime, background = Held(), Background()
    with here(runtime, queue=1) as server:
        background.ask(server.address, HELD, ONE)
        assert runtime.began.acquire(timeout=60)
        late = ask(server.address, HELD, request(np.zeros((1, 2)), parameters={"timeout": 50_000}))
        assert server.figure("rackwright_server_queue_requests") == 0
        runtime.go.release()
        assert [answer.status for answer in background.all()] == [200]
    assert (late.status, late.json) == (504, {"error": "no answer within 0.05 s"})
    assert runtime.batches == [1], "what was late was not computed"


def test_no_answer_waits_for_the_client_to_confirm_the_one_before() -> None:
    """Nagle's algorithm is off on every connection: with it each answer of a kept one takes 40 ms more."""

    async def accepted() -> int:
        found: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connection = writer.get_extra_info("socket")
            found.set_result(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        bound = serve._bind(ServingSettings(port=0))
        async with await asyncio.start_server(connected, sock=bound):
            _, writer = await asyncio.open_connection(*bound.getsockname())
            writer.close()
            return await found

    assert asyncio.run(accepted()) == 1
