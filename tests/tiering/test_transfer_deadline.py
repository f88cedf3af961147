"""A transfer between a store and a host or this computer ends at its deadline, and at the size that is expected."""

import contextlib
import hashlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rackwright.errors import EndpointUnreachable, UserError
from rackwright.tiering import loader
from rackwright.tiering.bucket import Bucket
from rackwright.tiering.directory import LocalDirectory, read_back
from rackwright.tiering.manifest import ArchivedFile
from rackwright.tiering.meter import Meter
from rackwright.tiering.onhost import transfer
from rackwright.tiering.onhost.tree import TransferFailed
from tests.support.hostile_server import Answer, endless, hostile_server, slow, slow_taker, whole

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
SLOW = {
    "a slow head": slow(OK + b"X-Slow: "),
    "a slow body": slow(OK + b"Content-Length: 100\r\n\r\n"),
    "a slow body without a length": slow(OK + b"\r\n"),
    "slow chunks": slow(CHUNKED, b"1\r\na\r\n"),
    "the slow size of a chunk": slow(CHUNKED, b"0"),
    "slow lines after the last chunk": slow(CHUNKED + b"2\r\nhi\r\n0\r\n", b"a: b\r\n"),
}
HEADS = {"with a length": OK + b"Content-Length: 419430400\r\n\r\n", "without a length": OK + b"\r\n"}
FILE = ArchivedFile(path="a", bytes=2, sha256=hashlib.sha256(b"hi").hexdigest(), mode=0o600)
METER = Meter(lambda text: None, "", 0)


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"ANSWER_SECONDS": 1, "LOWEST_RATE": 64 << 20, "ATTEMPTS": 1}.items():
        monkeypatch.setattr(transfer, name, value)


@contextlib.contextmanager
def ends_within(seconds: float) -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < seconds


@pytest.mark.parametrize(
    ("answer", "size", "reason"),
    [
        (SLOW["a slow head"], 0, "no end within 1 s"),
        (SLOW["a slow head"], 1, "no end within 1"),
        (slow_taker(whole()), 1, "no end within 1|timed out"),
        (slow_taker(whole()), 64 << 20, "no end within 2 s|timed out"),
    ],
    ids=["a slow answer to an empty part", "a slow answer", "no answer", "a slow taker"],
)
def test_a_slow_store_ends_the_transfer(answer: Answer, size: int, reason: str) -> None:
    with hostile_server() as server, ends_within(20):
        server.answer = answer

        url, seconds = f"http://127.0.0.1:{server.port}/a", transfer.most_seconds(size)
        with pytest.raises(TransferFailed, match=reason):
            transfer._sender(None)("PUT", url, bytes(size), lambda answer: answer, seconds)


def test_a_store_that_answers_in_time_takes_the_part() -> None:
    with hostile_server() as server:
        server.answer = whole()

        url = f"http://127.0.0.1:{server.port}/a"
        assert transfer._sender(None)("PUT", url, b"part", lambda answer: answer.status, 60) == 200


def job(port: int, directory: Path) -> dict[str, Any]:
    file = {**FILE.model_dump(), "url": f"http://127.0.0.1:{port}/a"}
    return {"authority": None, "bytes_per_second": None, "directory": str(directory), "files": [file]}


@pytest.mark.parametrize("do", ["read", "download"])
@pytest.mark.parametrize("name", SLOW)
def test_a_slow_object_ends_the_transfer_of_a_host(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, do: str
) -> None:
    with hostile_server() as server, ends_within(20):
        server.answer = SLOW[name]

        with contextlib.suppress(TransferFailed):
            transfer.OPERATIONS[do](job(server.port, tmp_path))
    whole_object = name == "slow lines after the last chunk"
    assert (FILE.sha256 in capsys.readouterr().out) <= whole_object
    assert [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()] in ([], [b"hi"] * whole_object)


@pytest.mark.parametrize("name", HEADS)
def test_a_host_reads_no_more_than_the_size_of_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    written: list[int] = []

    def count(data: Iterator[bytes], target: Any) -> Iterator[bytes]:
        for block in data:
            written.append(len(block))
            yield block

    monkeypatch.setattr(transfer, "write_through", count)
    with hostile_server() as server:
        server.answer = endless(HEADS[name])

        transfer.download(job(server.port, tmp_path))
    assert '"bytes": 3' in capsys.readouterr().out
    assert sum(written) == 3
    assert [*tmp_path.rglob("*")] == []


@contextlib.contextmanager
def bucket_with(answer: Answer) -> Iterator[Bucket]:
    import boto3
    from botocore.config import Config

    from rackwright.endpoints.bounded_session import BoundedSession

    with hostile_server() as server:
        server.answer = answer
        config = Config(retries={"max_attempts": 0}, s3={"addressing_style": "path"}, read_timeout=10)
        client = boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{server.port}",
            aws_access_key_id="a",
            aws_secret_access_key="b",
            region_name="x",
            config=config,
        )
        client._endpoint.http_session = BoundedSession(client._endpoint.http_session, wait_seconds=2)
        yield Bucket("b", client)


@pytest.mark.parametrize("do", ["read back", "download"])
@pytest.mark.parametrize("name", [name for name in SLOW if name != "a slow head"])
def test_a_slow_object_ends_the_transfer_of_this_computer(tmp_path: Path, name: str, do: str) -> None:
    from botocore.exceptions import BotoCoreError

    with bucket_with(SLOW[name]) as bucket, ends_within(20), contextlib.suppress(BotoCoreError, UserError):
        if do == "download":
            LocalDirectory(tmp_path).download(bucket, "archive", [FILE], METER)
        else:
            read_back(bucket, "archive", [FILE], METER)
    assert [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()] in ([], [b"hi"])


@pytest.mark.parametrize("name", HEADS)
def test_this_computer_reads_no_more_than_the_size_of_a_file(tmp_path: Path, name: str) -> None:
    meter = Meter(lambda text: None, "", 0)
    with bucket_with(endless(HEADS[name])) as bucket:
        came = LocalDirectory(tmp_path).download(bucket, "archive", [FILE], meter)
        assert came["a"].bytes == 3
        assert read_back(bucket, "archive", [FILE], meter)["a"].bytes == 3
    assert [*tmp_path.rglob("*")] == []
    assert meter._done == 6


def test_a_slow_part_of_a_large_object_ends(tmp_path: Path) -> None:
    head = b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-99/100\r\nContent-Length: 100\r\n\r\n"
    with bucket_with(slow(head)) as bucket, ends_within(20), pytest.raises(EndpointUnreachable, match="did not come"):
        loader.load(bucket, "a", 100, METER)


def test_a_bound_of_bandwidth_makes_the_deadline_later() -> None:
    assert transfer.most_seconds(2) < 2
    assert transfer.most_seconds(2, 64 << 10) > transfer.AT_ONCE * transfer.BLOCK_BYTES / (64 << 10)
