"""Answers of a hostile object store: bounded in size, time and elements, and never followed to another server."""

import gzip
from collections.abc import Iterator

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from rackwright.endpoints.bounded_session import ANSWER_BYTES, TAGS_MAX, BoundedSession
from rackwright.endpoints.s3 import session
from tests.support.hostile_server import Answer, HostileServer, endless, hostile_server, slow, whole

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


def test_a_packed_body_is_not_unpacked(server: HostileServer) -> None:
    server.answer = whole(gzip.compress(bytes(1 << 20)), Content_Encoding="gzip")
    client = session("us-east-1", f"http://127.0.0.1:{server.port}", True)("rackwright", "secret-key-of-this-test")

    assert len(client.get_object(Bucket="models", Key="a")["Body"].read(1 << 20)) < 5000
