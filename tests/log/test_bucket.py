"""A bucket with an object lock as the second place: heads that an account with all rights cannot take back."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rackwright.errors import HostUnreachable, SetupError
from rackwright.log.bucket import ACCESS_KEY, SECRET_KEY, LockedBucket
from rackwright.log.chain import check
from rackwright.log.copying import LogDiffers, copy_head
from rackwright.log.heads import Head, compare
from rackwright.log.places import Place, parse_place
from rackwright.log.writer import OperationsLog
from tests.support import object_store
from tests.support.object_store import KEYS, Server
from tests.support.operations_log import log_with_key, new_key


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with object_store.seaweedfs(tmp_path_factory.mktemp("store")) as running:
        yield running


@pytest.fixture
def log(tmp_path: Path) -> OperationsLog:
    log = log_with_key(tmp_path / "log", new_key(tmp_path / "key"))
    log.append("began", {"operation": "1"})
    return log


@pytest.fixture
def place(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A bucket of its own for each test, with an object lock of one day."""
    monkeypatch.setenv(ACCESS_KEY, object_store.ACCESS_KEY)
    monkeypatch.setenv(SECRET_KEY, KEYS[object_store.ACCESS_KEY])
    name = tmp_path.name.replace("_", "-").lower()[-40:].strip("-")
    server.client().create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    lock(server, name)
    return parse_place(f"s3+{server.url}/{name}/operations/log")


def lock(server: Server, bucket: str, mode: str = "COMPLIANCE") -> None:
    rule = {"DefaultRetention": {"Mode": mode, "Days": 1}}
    server.client().put_object_lock_configuration(
        Bucket=bucket, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": rule}
    )


def copied(log: OperationsLog, place: Place) -> Any:
    result = compare(check(log.path.read_bytes()), place.read())
    return result.copied, result.broken and result.broken.sort, result.unreadable


def test_each_head_is_copied_once(log, place):
    assert place.read() == b""
    copy_head(log.path, place)
    copy_head(log.path, place)
    log.append("ended", {"operation": "1"})
    copy_head(log.path, place)

    assert sorted(head.sequence for head in map(Head.parse, place.read().splitlines()) if head) == [1, 2]
    assert copied(log, place) == (2, None, ())


def test_no_account_takes_a_head_back(server, log, place):
    copy_head(log.path, place)
    client = server.client()
    assert isinstance(place, LockedBucket)
    [version] = client.list_object_versions(Bucket=place.bucket)["Versions"]

    client.delete_object(Bucket=place.bucket, Key=version["Key"])
    client.put_object(Bucket=place.bucket, Key=version["Key"], Body=b"another content")
    with pytest.raises(client.exceptions.ClientError):
        client.delete_object(Bucket=place.bucket, Key=version["Key"], VersionId=version["VersionId"])

    assert copied(log, place) == (1, None, ())


def test_a_log_that_was_written_again_shows(log, place, tmp_path):
    log.append("ended", {"operation": "1"})
    copy_head(log.path, place)
    lines = log.path.read_bytes().splitlines(keepends=True)
    log.path.write_bytes(b"".join(lines[:-1]))

    assert copied(log, place) == (2, "truncated", ())
    log_with_key(tmp_path / "log", tmp_path / "key").append("ended", {"operation": "another"})
    assert copied(log, place) == (2, "forked", ())
    with pytest.raises(LogDiffers, match="entry 2 there is another one"):
        copy_head(log.path, place)


def test_an_object_that_is_no_head_is_reported(server, log, place):
    copy_head(log.path, place)
    assert isinstance(place, LockedBucket)
    for key in ("a/note", "YQ==.head", "YQ.head"):
        server.client().put_object(Bucket=place.bucket, Key=f"{place.prefix}{key}", Body=b"")
    server.client().put_object(Bucket=place.bucket, Key="elsewhere", Body=b"")

    last, broken, unreadable = copied(log, place)
    assert (last, broken, len(unreadable)) == (1, None, 3)


def test_a_bucket_without_a_lock_gets_no_head(server, log, place):
    assert isinstance(place, LockedBucket)
    server.client().create_bucket(Bucket=f"{place.bucket}-open")
    open_place = parse_place(f"s3+{server.url}/{place.bucket}-open")

    with pytest.raises(HostUnreachable, match="object lock|ObjectLock"):
        copy_head(log.path, open_place)
    assert open_place.read() == b""


def test_a_store_that_refuses_or_is_silent_is_not_reached(log, place, monkeypatch):
    monkeypatch.setenv(SECRET_KEY, "wrong")
    with pytest.raises(HostUnreachable, match=r"second place s3\+.*: the store refuses: SignatureDoesNotMatch"):
        copy_head(log.path, place)
    with pytest.raises(HostUnreachable, match="no answer from http://127.0.0.1:9"):
        parse_place("s3+http://127.0.0.1:9/bucket").read()


def test_missing_credentials_are_named(place, monkeypatch):
    monkeypatch.delenv(SECRET_KEY)
    with pytest.raises(SetupError, match="AWS_SECRET_ACCESS_KEY: the credentials of the second place are not set"):
        place.read()


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("s3+https://store:8333/heads", ("https://store:8333", "heads", "")),
        ("s3+https://store/heads/of/rack/", ("https://store", "heads", "of/rack/")),
    ],
)
def test_a_bucket_has_a_url(text, place):
    parsed = parse_place(text)
    assert isinstance(parsed, LockedBucket)
    assert (parsed.url, parsed.bucket, parsed.prefix) == place


@pytest.mark.parametrize(
    "text", ["s3+https://store", "s3+https:///heads", "s3+ftp://store/heads", "s3+https://key:secret@store/heads"]
)
def test_another_form_is_refused(text):
    with pytest.raises(SetupError, match="no second place"):
        parse_place(text)
