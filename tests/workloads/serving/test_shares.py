"""The share of a server that one key may hold, over HTTP and gRPC."""

import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from typing import Any

import pytest
from pydantic import ValidationError

from tests.support.model_servers import HELD, ONE, Answer, Background, Held, Here, ask, eventually, grpc_address, here
from workloads.serving import shares
from workloads.serving.keys import Key, Keys
from workloads.serving.settings import ServingSettings

POST = b"POST " + HELD.encode() + b" HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %b\r\n"
KEYS = Keys(
    [Key(name=name, sha256=sha256(name.encode()).hexdigest(), scopes=("infer", "metrics")) for name in ("one", "two")]
)


def send(server: Here, key: str, body: bytes = ONE, path: str = HELD) -> Answer:
    return ask(server.address, path, body, {"authorization": f"Bearer {key}"})


def slow(stack: ExitStack, server: Here, key: bytes = b"one", sent: bytes = b"{", size: int = 100) -> socket.socket:
    """Return a connection with a request that lacks most of its body."""
    connection = stack.enter_context(socket.create_connection(server.address, timeout=60))
    connection.sendall(POST % key + b"Content-Length: %d\r\n\r\n" % size + sent)
    return connection


def until_closed(connection: socket.socket) -> bytes:
    """Return all that comes until the server closes the connection."""
    got = b""
    while part := connection.recv(65536):
        got += part
    return got


def refusals(server: Here) -> dict[tuple[str, str], float]:
    """Return the number of refusals, by reason and key."""
    text = ask(server.address, "/metrics", headers={"authorization": "Bearer two"}).content.decode()
    found = re.findall(r'^rackwright_server_refusals_total\{key="(.*)",reason="(.*)"\} (.*)$', text, re.MULTILINE)
    return {(reason, key): float(number) for key, reason, number in found}


@contextmanager
def busy_free(**settings: Any) -> Iterator[Here]:
    runtime = Held()
    for _ in range(100):
        runtime.go.release()
    with here(runtime, KEYS, body_seconds=600, **settings) as server:
        yield server


def test_slow_bodies_of_one_key_leave_connections_to_others() -> None:
    """
    Slow bodies of one key held all connections for body_seconds each, so that other keys and health checks got 503.
    """
    with busy_free(connections=8) as server, ExitStack() as stack:
        for _ in range(4):
            slow(stack, server)
        share = server.server.config.app._shares.of(KEYS.find("Bearer one"))
        eventually(lambda: share._requests == 4)
        others = [slow(stack, server) for _ in range(8)]
        answers = [until_closed(each) for each in others]
        assert all(answer.startswith(b"HTTP/1.1 429 ") for answer in answers), "each connection was closed as well"
        assert b"retry-after: 1\r\n" in answers[0] and b"this key has 4 requests under way" in answers[0]
        assert send(server, "one").status == 429
        assert send(server, "two").status == 200 and ask(server.address, "/health").status == 200
        assert refusals(server) == {("share", "one"): 9}
        stack.close()
        eventually(lambda: send(server, "one").status == 200)
    refused = [line for line in server.requests if line["status"] == 429]
    assert {(line["key"], line["reason"]) for line in refused} == {("one", "share")}


def test_an_answer_that_is_not_finished_counts_as_well() -> None:
    runtime, background = Held(), Background()
    with here(runtime, KEYS, connections=4, queue=9) as server:
        for _ in range(2):
            background.ask(server.address, HELD, ONE, {"authorization": "Bearer one"})
        share = server.server.config.app._shares.of(KEYS.find("Bearer one"))
        eventually(lambda: share._requests == 2)
        assert send(server, "one").status == 429
        for _ in range(3):
            runtime.go.release()
        assert [answer.status for answer in background.all()] == [200, 200]
        assert send(server, "one").status == 200


def test_bodies_of_one_key_leave_memory_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workloads.serving.body.MAX_BODIES", 2)
    with busy_free(body_bytes=1000) as server, ExitStack() as stack:
        slow(stack, server, sent=b" " * 600, size=900)
        share = server.server.config.app._shares.of(KEYS.find("Bearer one"))
        eventually(lambda: share.body_bytes == 600)
        answer = send(server, "one", ONE + b" " * 600)
        assert (answer.status, answer.headers["retry-after"]) == (429, "1")
        assert answer.json == {"error": "the bodies of this key use its half of the memory; try again in 1 s"}
        assert send(server, "two", ONE + b" " * 600).status == 200
        assert refusals(server) == {("share", "one"): 1}
        stack.close()
        eventually(lambda: share.body_bytes == 0)
        assert send(server, "one", ONE + b" " * 600).status == 200


def test_slow_messages_by_grpc_leave_slots_and_calls_to_others() -> None:
    """
    One key held all slots for messages, and others waited for body_seconds.
    """
    grpc = pytest.importorskip("grpc")
    from tests.workloads.serving.test_grpc_front import BYTES, ROW, call, infer, unsent

    message = infer(inputs=[ROW], raw_input_contents=[BYTES])
    with busy_free(grpc_port=0, connections=160) as server:
        share = server.server.config.app._shares.of(KEYS.find("Bearer one"))
        with grpc.insecure_channel(grpc_address(server)) as channel:
            waiting = [unsent(channel, token="one") for _ in range(40)]
            eventually(lambda: share._requests == 40)
            assert share.messages.locked()
            refused = unsent(channel, token="one").exception()
            assert refused.code().name == "RESOURCE_EXHAUSTED" and "40 requests under way" in refused.details()
            assert send(server, "one").status == 429, "both ports have one share"
            call(server, "ModelInfer", message, metadata=[("authorization", "Bearer two")])
            assert send(server, "two").status == 200
            for each in waiting:
                each.cancel()
        eventually(lambda: share._requests == 0)
        call(server, "ModelInfer", message, metadata=[("authorization", "Bearer one")])
        assert refusals(server) == {("share", "one"): 2}


def test_a_message_without_a_slot_is_in_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Calls whose messages did not come, or had no slot, were in neither log nor metrics.
    """
    grpc = pytest.importorskip("grpc")
    from tests.workloads.serving.test_grpc_front import unsent

    with here(Held(), KEYS, grpc_port=0, body_seconds=0.2) as server:
        with grpc.insecure_channel(grpc_address(server)) as channel:
            codes = {unsent(channel, token="one").exception().code().name for _ in range(2)}
            calls = [unsent(channel, token="one") for _ in range(shares.MAX_BODIES)]
            codes |= {each.exception().code().name for each in calls}
        assert codes >= {"DEADLINE_EXCEEDED"}
        eventually(lambda: len(server.requests) == 2 + shares.MAX_BODIES)
    assert server.requests[0]["status"] == 408 and server.requests[0]["key"] == "one"
    assert server.requests[0]["reason"] == "the message did not arrive within 0.2 s"


def test_a_key_may_not_have_all_connections() -> None:
    assert ServingSettings().requests_of_key == 512
    assert ServingSettings(grpc_port=1, key_requests=511).requests_of_key == 511
    with pytest.raises(ValidationError, match="one key could hold all of them"):
        ServingSettings(grpc_port=1, key_requests=512)
