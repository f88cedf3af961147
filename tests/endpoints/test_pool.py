"""Endpoints of a process: read once, unreachable once, and read again after a change."""

import threading
from collections.abc import Callable

import pytest

from rackwright.core.contract import Call, EndpointSource
from rackwright.endpoints.pool import Endpoints
from rackwright.errors import Diagnostic, EndpointUnreachable, StepFailed
from rackwright.facts.facts import Facts

ARCHIVE = EndpointSource("s3", "archive")
GONE = EndpointUnreachable(Diagnostic("s3:archive", "no answer"))
STEPS = [Call("first", "put"), Call("second", "put"), Call("third", "put")]


class Client:
    """A client that counts its readings, and notes the requests."""

    def __init__(self, before_read: Callable[[], None] = lambda: None) -> None:
        self.readings, self.requests, self.before_read = 0, list[str](), before_read

    def read(self) -> Facts:
        self.before_read()
        self.readings += 1
        return Facts({"format": 1, "taken_at": self.readings})

    def call(self, id: str, step: Call) -> None:
        self.requests.append(step.text)
        if step.operation == "refused":
            raise StepFailed(Diagnostic(id, "refused"))


def fail() -> None:
    raise GONE


def test_all_resources_of_an_endpoint_share_one_reading():
    client = Client()
    endpoints = Endpoints(lambda source: client)

    taken = {endpoints.facts(ARCHIVE).taken_at for _ in range(3)}

    assert (taken, client.readings) == ({1}, 1)
    assert endpoints.facts(ARCHIVE, fresh=True).taken_at == 2


def test_calls_at_the_same_time_share_one_reading():
    waiting = threading.Event()
    client = Client(lambda: waiting.wait() and None)
    endpoints = Endpoints(lambda source: client)
    threads = [threading.Thread(target=endpoints.facts, args=(ARCHIVE,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    waiting.set()
    for thread in threads:
        thread.join()

    assert client.readings == 1


def test_an_unreachable_endpoint_is_asked_once():
    tries = []

    def connect(source: EndpointSource) -> Client:
        tries.append(source)
        return Client(fail)

    endpoints = Endpoints(connect)
    for fresh in (False, False, True):
        with pytest.raises(EndpointUnreachable):
            endpoints.facts(ARCHIVE, fresh=fresh)

    assert tries == [ARCHIVE]


def test_a_change_forgets_the_facts():
    client = Client()
    endpoints, messages = Endpoints(lambda source: client), list[str]()
    before = endpoints.facts(ARCHIVE)

    endpoints.execute(ARCHIVE, "archive/models", STEPS, messages.append)

    assert messages == client.requests == ["first", "second", "third"]
    assert endpoints.facts(ARCHIVE).taken_at != before.taken_at


def test_a_refused_request_ends_the_steps_and_forgets_the_facts():
    client = Client()
    endpoints = Endpoints(lambda source: client)
    endpoints.facts(ARCHIVE)

    with pytest.raises(StepFailed):
        endpoints.execute(ARCHIVE, "archive/models", [STEPS[0], Call("second", "refused"), STEPS[2]], lambda text: None)

    assert client.requests == ["first", "second"]
    assert endpoints.facts(ARCHIVE).taken_at == 2


def test_a_cancelled_process_begins_no_request():
    client = Client()
    endpoints = Endpoints(lambda source: client)

    def cancel(text: str) -> None:
        endpoints.cancel()

    with pytest.raises(StepFailed) as failed:
        endpoints.execute(ARCHIVE, "archive/models", STEPS, cancel)

    assert client.requests == ["first"]
    assert failed.value.diagnostic.note == "1 of 3 requests were sent"


def test_an_endpoint_has_no_name_of_a_host():
    assert str(ARCHIVE) == "s3:archive"
