"""A server that is asked to stop answers all open requests, and sends further clients elsewhere."""

import threading
from collections import Counter
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import numpy as np

from tests.support.model_servers import INFER, Background, Held, ask, eventually, here, request, served

HELD = INFER.format("held")
ONE = request(np.zeros((1, 2)))


def test_what_is_under_way_is_answered() -> None:
    """One request is being computed and two wait when the word comes."""
    runtime, background = Held(), Background()
    with here(runtime) as server:
        background.ask(server.address, HELD, ONE)
        assert runtime.began.acquire(timeout=60)
        for _ in range(2):
            background.ask(server.address, HELD, ONE)
        eventually(lambda: server.figure("rackwright_server_queue_requests") == 2)
        server.terminate()
        eventually(lambda: server.server.should_exit)
        for _ in range(2):
            runtime.go.release()
        answers = background.all()
        eventually(server.ended)

    assert [answer.status for answer in answers] == [200] * 3


def test_while_it_drains_it_answers_and_is_not_ready() -> None:
    runtime = Held()
    for _ in range(9):
        runtime.go.release()
    with here(runtime, drain_seconds=60) as server:
        assert ask(server.address, "/ready").status == 200
        server.terminate()
        ready, infer, live = (ask(server.address, *what) for what in (("/ready",), (HELD, ONE), ("/health",)))
        server.terminate()
        eventually(server.ended)

    assert (ready.status, ready.json) == (503, {"ready": False, "version": "1"})
    assert (infer.status, live.status) == (200, 200)
    assert {answer.headers["connection"] for answer in (ready, infer, live)} == {"close"}


class Client(threading.Thread):
    """Asks over one connection for as long as the server says that it stays, as a balancer would for it."""

    def __init__(self, address: tuple[str, int], body: bytes, path: str) -> None:
        super().__init__()
        self._address, self._body, self._path = address, body, path
        self.outcomes: Counter[str] = Counter()

    def run(self) -> None:
        connection = HTTPConnection(*self._address, timeout=60)
        leave = False
        while not leave:
            try:
                connection.request("POST", self._path, self._body)
                answer = connection.getresponse()
                answer.read()
                self.outcomes[str(answer.status)] += 1
                leave = answer.getheader("connection") == "close"
            except (OSError, HTTPException) as error:
                self.outcomes[type(error).__name__] += 1
                leave = True
        connection.close()


def test_sigterm_under_load_loses_no_request(digits: Path) -> None:
    body = request(np.zeros((1, 8, 8)))
    with served(digits, "drain_seconds=1") as server:
        clients = [Client(server.address, body, INFER.format("digits")) for _ in range(16)]
        for client in clients:
            client.start()
        eventually(lambda: all(client.outcomes["200"] > 3 for client in clients))
        status = server.end()
        for client in clients:
            client.join(60)

    assert status == 0
    assert not any(client.is_alive() for client in clients)
    outcomes = sum((client.outcomes for client in clients), Counter())
    assert outcomes.keys() == {"200"}
    assert len(server.requests) == outcomes["200"], "none was taken without an answer that came"
    assert [line["event"] for line in server.log if line["event"] != "request"] == ["draining", "stopped"]


def test_every_line_of_the_log_is_json(digits: Path) -> None:
    with served(digits) as server:
        ask(server.address, '/a"b%0a', None, {"X-Request-Id": 'x"y'})
        assert server.end() == 0
    [line] = server.requests
    assert (line["request"], line["path"], line["status"]) == ('x"y', '/a"b\n', 404)
