"""Answers of a hostile object store: bounded in size, time and elements, and never followed to another server."""

import gzip
import io
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from rackwright.endpoints import bounded_session
from rackwright.endpoints.bounded_session import ANSWER_BYTES, TAGS_MAX, BoundedSession
from rackwright.endpoints.s3 import session
from tests.support.hostile_server import Answer, HostileServer, endless, hostile_server, slow, slow_taker, whole

EMPTY = b"<ListBucketResult></ListBucketResult>"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[HostileServer]:
    monkeypatch.setattr(BoundedSession.__init__, "__defaults__", (1,))
    with hostile_server() as running:
        yield running


def listing(server: HostileServer, answer: Answer) -> object:
    server.answer = answer
    client = session("us-east-1", f"http://127.0.0.1:{server.port}", True)("rackwright", "secret-key-of-this-test")
    return client.list_objects_v2(Bucket="models")


def test_an_answer_within_the_bounds_is_read(server: HostileServer) -> None:
    assert listing(server, whole(EMPTY))


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (endless(b"HTTP/1.1 200 OK\r\n\r\n", blocks=20), f"longer than {ANSWER_BYTES} bytes"),
        (whole(b"<a>" + b"<b/>" * TAGS_MAX + b"</a>"), "tags"),
        (whole(b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'), "declarations"),
        (whole('<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'.encode("utf-16")), "declarations"),
        (whole(b'<?xml version="1.0" encoding="cp037"?><a/>'), "not in UTF-8"),
        (slow(b"HTTP/1.1 200 OK\r\n\r\n<a>"), "took more than 1 s"),
        (slow(b"HTTP/1.1 200 OK\r\nX-Slow: "), "took more than 1 s"),
    ],
)
def test_an_answer_beyond_the_bounds_is_refused(server: HostileServer, answer: Answer, reason: str) -> None:
    with pytest.raises(BotoCoreError, match=reason):
        listing(server, answer)


@pytest.mark.parametrize("status", ["301 Moved", "307 Moved", "400 No"])
def test_credentials_go_to_no_other_server(server: HostileServer, status: str) -> None:
    """botocore follows a bucket to another region, whose name the store chooses; the address stays ours."""
    with hostile_server() as other:
        elsewhere = f"127.0.0.1:{other.port}"
        body = f"<Error><Code>PermanentRedirect</Code><Endpoint>{elsewhere}</Endpoint></Error>".encode()
        for region in ("eu-1", f"{elsewhere}/", f"a@{elsewhere}#"):
            with pytest.raises((ClientError, BotoCoreError)):
                listing(server, whole(body, status, Location=f"http://{elsewhere}/", x_amz_bucket_region=region))

        assert server.requests and not other.requests


class Parts:
    """A body that has no end in the buffers of sockets."""

    def __init__(self, size: int) -> None:
        self._left = size

    def read(self, most: int = 1 << 16) -> bytes:
        part = bytes(min(most, 1 << 16, self._left))
        self._left -= len(part)
        return part


@pytest.mark.parametrize(
    "answer",
    [
        slow(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n<a>"),
        slow(b"HTTP/1.1 200 OK\r\nX-Slow: "),
        slow(b""),
        slow_taker(whole()),
    ],
    ids=["a slow answer", "a slow head", "no head", "a slow taker"],
)
@pytest.mark.parametrize("size", [1, 64 << 20])
def test_a_request_with_a_body_has_one_deadline(
    server: HostileServer, answer: Answer, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded_session, "LOWEST_RATE", 64 << 20)
    server.answer = answer
    client = session("us-east-1", f"http://127.0.0.1:{server.port}", True)("rackwright", "secret-key-of-this-test")

    with pytest.raises(BotoCoreError, match=r"took more than [12](\.\d+)? s for a body of"):
        client.put_object(Bucket="models", Key="a", Body=bytes(size))


def test_the_deadline_of_a_body_follows_its_size() -> None:
    sizes = {
        0: SimpleNamespace(body=None, headers={}),
        3: SimpleNamespace(body=b"abc", headers={}),
        4: SimpleNamespace(body=Parts(4), headers={"Content-Length": "4"}),
        5: SimpleNamespace(body=Parts(5), headers={"X-Amz-Decoded-Content-Length": b"5"}),
        bounded_session.SINGLE_MAX: SimpleNamespace(body=Parts(6), headers={"Content-Length": "x" * 90}),
    }

    assert [*map(bounded_session._body_bytes, sizes.values())] == [*sizes]


def test_a_packed_body_is_not_unpacked(server: HostileServer) -> None:
    server.answer = whole(gzip.compress(bytes(1 << 20)), Content_Encoding="gzip")
    client = session("us-east-1", f"http://127.0.0.1:{server.port}", True)("rackwright", "secret-key-of-this-test")

    assert len(client.get_object(Bucket="models", Key="a")["Body"].read(1 << 20)) < 5000


def test_an_encrypted_answer_is_not_read_as_xml():
    """Its bytes may look like a declaration of XML."""
    answer = SimpleNamespace(status_code=200, raw=io.BytesIO(b"\0<!x"))
    session = BoundedSession(SimpleNamespace(send=lambda request: answer))
    request = SimpleNamespace(stream_output=False, body=b"", headers={}, is_encrypted=True)

    assert session.send(request).raw.read() == b"\0<!x"
    answer.raw = io.BytesIO(b"\0<!x")
    request.is_encrypted = request.stream_output = False
    with pytest.raises(BotoCoreError, match="document type"):
        session.send(request)
