"""Directories of hosts: the program of a host transfers files by signed addresses, and gets no key."""

import os
from pathlib import Path
from typing import Any

import pytest

from rackwright.errors import ChangeRefused, StepFailed
from rackwright.tiering import archive
from rackwright.tiering.manifest import ArchiveDamaged
from rackwright.tiering.remote import HostDirectory
from tests.support.host_program import LocalHost
from tests.support.object_store import ACCESS_KEY, KEYS

CONTENT = {"config.json": b"{}", "shards/1.bin": os.urandom(17 << 20), "shards/two words.bin": b"2", "empty": b""}


@pytest.fixture
def host() -> LocalHost:
    return LocalHost()


@pytest.fixture
def model(tmp_path) -> Path:
    for path, content in CONTENT.items():
        place = tmp_path / "model" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    (tmp_path / "model/config.json").chmod(0o640)
    return tmp_path / "model"


def on(host: Any, path: Path) -> HostDirectory:
    return HostDirectory("gpu-01", str(path), lambda: host)


def moved(bucket, directory: HostDirectory, limit: int | None = None) -> list[str]:
    lines: list[str] = []
    archive.move(bucket, archive.plan(bucket, "model-1", directory), directory, False, limit, lines.append)
    return lines


def read(directory: Path) -> dict[str, bytes]:
    return {str(each.relative_to(directory)): each.read_bytes() for each in directory.rglob("*") if each.is_file()}


def restored(bucket, directory: HostDirectory) -> dict[str, bytes]:
    archive.restore(bucket, archive.load_manifest(bucket, "model-1"), directory, lambda text: None)
    return read(Path(directory.path))


def test_files_of_a_host_go_to_the_store_and_comes_back(bucket, host, model, tmp_path):
    moved(bucket, on(host, model))

    assert not model.exists()
    assert restored(bucket, on(host, tmp_path / "back")) == CONTENT
    assert (tmp_path / "back/config.json").stat().st_mode & 0o777 == 0o640
    assert restored(bucket, on(host, tmp_path / "back")) == CONTENT


def test_the_host_gets_no_key(bucket, host, model, tmp_path):
    moved(bucket, on(host, model))
    restored(bucket, on(host, tmp_path / "back"))

    assert b"X-Amz-Signature" in host.given
    assert KEYS[ACCESS_KEY].encode() not in host.given


def test_a_damaged_object_is_found_on_the_host_and_not_written(bucket, host, model, tmp_path):
    moved(bucket, on(host, model))
    bucket.client.put_object(Bucket=bucket.name, Key="model-1/files/shards/two words.bin", Body=b"3")
    bucket.client.delete_object(Bucket=bucket.name, Key="model-1/files/config.json")

    with pytest.raises(ArchiveDamaged) as damaged:
        restored(bucket, on(host, tmp_path / "back"))

    texts = ["config.json: missing", "shards/two words.bin: 1 bytes with another content"]
    assert [each.problem for each in damaged.value.diagnostics] == texts
    assert read(tmp_path / "back").keys() == {"empty", "shards/1.bin"}


def test_a_file_of_a_host_that_changes_during_the_move_stays(bucket, host, model):
    directory = on(host, model)
    planned = archive.plan(bucket, "model-1", directory)
    (model / "config.json").write_bytes(b"[]")
    os.utime(model / "config.json", ns=(0, 0))

    with pytest.raises((StepFailed, ArchiveDamaged)):
        archive.move(bucket, planned, directory, False, None, lambda text: None)

    assert read(model) == {**CONTENT, "config.json": b"[]"}


def test_a_store_that_does_not_answer_ends_the_move_without_a_loss(bucket, host, model, monkeypatch):
    def elsewhere(operation: str, parameters: dict[str, Any], ExpiresIn: int) -> str:
        return "http://127.0.0.1:9/nothing"

    directory = on(host, model)
    planned = archive.plan(bucket, "model-1", directory)
    monkeypatch.setattr(bucket.client, "generate_presigned_url", elsewhere)
    with pytest.raises(StepFailed, match="no answer from the store: "):
        archive.move(bucket, planned, directory, False, None, lambda text: None)

    assert read(model) == CONTENT
    assert "Uploads" not in bucket.client.list_multipart_uploads(Bucket=bucket.name)


def test_links_on_the_host_are_refused(bucket, host, model, tmp_path):
    (model / "link").symlink_to("/etc/passwd")
    (tmp_path / "other").symlink_to(model)

    with pytest.raises(ChangeRefused, match="the path is a link"):
        archive.plan(bucket, "model-1", on(host, model))
    with pytest.raises(StepFailed, match="is behind a link"):
        archive.plan(bucket, "model-1", on(host, tmp_path / "other"))


def test_a_restore_never_overwrites_a_file_of_the_host(bucket, host, model, tmp_path):
    moved(bucket, on(host, model))
    (tmp_path / "back").mkdir()
    (tmp_path / "back/config.json").write_bytes(b"mine")

    with pytest.raises(ChangeRefused, match=r"config.json: 4 bytes with another content"):
        restored(bucket, on(host, tmp_path / "back"))

    assert read(tmp_path / "back") == {"config.json": b"mine"}


def test_a_name_on_the_host_that_is_not_utf_8_is_refused(host, model):
    (Path(os.fsdecode(os.fsencode(model) + b"/shards/\xff"))).write_text("x")

    with pytest.raises(ChangeRefused, match=r"gpu-01:.*shards/\\udcff: the name is not UTF-8"):
        on(host, model).files()
