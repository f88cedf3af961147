"""Directories to a bucket and back, on a real SeaweedFS: nothing is lost by interruptions, damage or changes."""

import errno
import os
from pathlib import Path

import pytest

from rackwright.errors import ChangeRefused, StepFailed
from rackwright.tiering import archive
from rackwright.tiering.bucket import Bucket
from rackwright.tiering.directory import LocalDirectory
from rackwright.tiering.manifest import ArchiveDamaged, SourceFile
from rackwright.tiering.meter import Meter

CONTENT = {"config.json": b"{}", "shards/1.bin": b"a" * 100_000, "shards/2.bin": os.urandom(17 << 20), "empty": b""}


@pytest.fixture
def directory(tmp_path) -> Path:
    """A directory with files, one of which is larger than a part of an upload."""
    for path, content in CONTENT.items():
        place = tmp_path / "model" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    (tmp_path / "model/config.json").chmod(0o640)
    return tmp_path / "model"


def moved(bucket: Bucket, directory: Path, keep: bool = False) -> list[str]:
    """Move *directory*, and return the lines of progress."""
    lines: list[str] = []
    planned = archive.plan(bucket, "model-1", LocalDirectory(directory))
    archive.move(bucket, planned, LocalDirectory(directory), keep, None, lines.append)
    return lines


def read(directory: Path) -> dict[str, bytes]:
    return {
        place.relative_to(directory).as_posix(): place.read_bytes() for place in directory.rglob("*") if place.is_file()
    }


def restored(bucket: Bucket, to: Path) -> dict[str, bytes]:
    archive.restore(bucket, archive.load_manifest(bucket, "model-1"), LocalDirectory(to), lambda text: None)
    return read(to)


def test_a_directory_goes_and_comes_back(bucket, directory, tmp_path):
    moved(bucket, directory)

    assert not directory.exists()
    assert archive.list_archives(bucket) == ("model-1",)
    assert restored(bucket, tmp_path / "back") == CONTENT
    assert (tmp_path / "back/config.json").stat().st_mode & 0o777 == 0o640


def test_a_plan_changes_nothing(bucket, directory):
    planned = archive.plan(bucket, "model-1", LocalDirectory(directory))

    assert (len(planned.uploads), planned.is_complete) == (4, False)
    assert next(iter(planned.lines(bucket))) == "archive model-1: 4 files, 17.93MB"
    assert read(directory) == CONTENT
    assert "Contents" not in bucket.client.list_objects_v2(Bucket=bucket.name)


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        ([f"{'d' * 250}/" * 4 + "n" * 30], "the key would have 1048 bytes"),
        (["p\\q", "p/q"], "some stores, such as SeaweedFS, have one object for this path and "),
        (["p\\q", "p"], "some stores, such as SeaweedFS, have one object for this path and p"),
        (["p\\", "p"], "some stores, such as SeaweedFS, have one object for this path and "),
    ],
)
def test_names_that_a_store_does_not_keep_apart_are_refused_before_the_first_byte(tmp_path, names, problem):
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")

    with pytest.raises(ChangeRefused) as refused:
        archive.plan(Bucket("models", None), "model-1", LocalDirectory(tmp_path))
    assert problem in refused.value.diagnostics[0].problem


def test_a_name_with_a_backslash_alone_goes_and_comes_back(bucket, tmp_path):
    source = tmp_path / "model"
    source.mkdir()
    (source / "p\\q").write_bytes(b"x")
    moved(bucket, source)

    assert restored(bucket, tmp_path / "back") == {"p\\q": b"x"}


def test_an_interrupted_move_continues_with_the_missing_files(bucket, directory, tmp_path):
    planned = archive.plan(bucket, "model-1", LocalDirectory(directory))

    def interrupt(text: str) -> None:
        if text.startswith("upload 3"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        archive.move(bucket, planned, LocalDirectory(directory), False, None, interrupt)

    assert read(directory) == CONTENT
    assert archive.list_archives(bucket) == ()
    uploads = [line.split(": ")[1] for line in moved(bucket, directory) if line.startswith("upload")]
    assert uploads == ["shards/1.bin, 100kB", "shards/2.bin, 17MiB"]
    assert restored(bucket, tmp_path / "back") == CONTENT


def test_an_upload_with_another_content_is_found_before_anything_is_deleted(bucket, directory, monkeypatch):
    """
    The store holds other bytes under the digest that the move has noted.
    """
    upload = LocalDirectory.upload

    def damage(self: LocalDirectory, target: Bucket, name: str, source: SourceFile, meter: Meter) -> None:
        upload(self, target, name, source, meter)
        key = target.key(name, source.file.path)
        target.client.put_object(Bucket=target.name, Key=key, Body=b"b" * source.file.bytes)

    monkeypatch.setattr(LocalDirectory, "upload", damage)
    with pytest.raises(ArchiveDamaged) as damaged:
        moved(bucket, directory)

    assert len(damaged.value.diagnostics) == 3
    assert read(directory) == CONTENT
    assert archive.list_archives(bucket) == ()


def test_a_file_that_changes_during_the_move_stays(bucket, directory):
    planned = archive.plan(bucket, "model-1", LocalDirectory(directory))

    def change(text: str) -> None:
        if text.startswith("read back"):
            (directory / "config.json").write_bytes(b"[]")

    with pytest.raises(StepFailed, match="1 file changed during the move, the first is config.json"):
        archive.move(bucket, planned, LocalDirectory(directory), False, None, change)

    assert read(directory) == {**CONTENT, "config.json": b"[]"}


def test_an_archive_is_never_overwritten(bucket, directory):
    moved(bucket, directory, keep=True)
    assert read(directory) == CONTENT
    (directory / "config.json").write_bytes(b"[]")

    with pytest.raises(ChangeRefused, match=r"the archive exists with another content: config.json"):
        archive.plan(bucket, "model-1", LocalDirectory(directory))


def test_verify_names_each_damaged_file(bucket, directory, tmp_path):
    moved(bucket, directory)
    bucket.client.put_object(Bucket=bucket.name, Key="model-1/files/shards/1.bin", Body=b"a" * 99_999)
    bucket.client.delete_object(Bucket=bucket.name, Key="model-1/files/config.json")
    manifest = archive.load_manifest(bucket, "model-1")

    with pytest.raises(ArchiveDamaged) as damaged:
        archive.verify(bucket, manifest, lambda text: None)
    with pytest.raises(ArchiveDamaged):
        restored(bucket, tmp_path / "back")

    texts = ["config.json: missing", "shards/1.bin: 99999 bytes with another content"]
    assert [each.problem for each in damaged.value.diagnostics] == texts
    assert read(tmp_path / "back").keys() == {"empty", "shards/2.bin"}


def test_a_changed_manifest_is_found(bucket, directory):
    moved(bucket, directory)
    key = "model-1/manifest.json"
    body = bucket.client.get_object(Bucket=bucket.name, Key=key)["Body"].read()
    bucket.client.put_object(Bucket=bucket.name, Key=key, Body=body.replace(b"config.json", b"config.jsoN"))

    with pytest.raises(ArchiveDamaged, match="another content than its digest"):
        archive.load_manifest(bucket, "model-1")


def test_a_restore_overwrites_nothing_and_repeats(bucket, directory, tmp_path):
    moved(bucket, directory)
    back = tmp_path / "back"
    back.mkdir()
    (back / "config.json").write_bytes(b"mine")

    with pytest.raises(ChangeRefused, match=r"config.json: 4 bytes with another content"):
        restored(bucket, back)
    assert read(back) == {"config.json": b"mine"}

    (back / "config.json").write_bytes(CONTENT["config.json"])
    assert restored(bucket, back) == CONTENT
    assert restored(bucket, back) == CONTENT


def test_an_unknown_archive_is_refused_with_the_names_that_exist(bucket, directory):
    moved(bucket, directory)

    with pytest.raises(ChangeRefused, match="one of model-1"):
        archive.load_manifest(bucket, "model-2")


def test_names_of_the_stores_own_files_are_refused(bucket, directory):
    with pytest.raises(ChangeRefused, match=r"4 paths may name .* the first is model\.versions/"):
        archive.plan(bucket, "model.versions", LocalDirectory(directory))
    (directory / "a.versions").mkdir()
    (directory / "a.versions/v_1").write_bytes(b"a")

    with pytest.raises(ChangeRefused, match=r"1 path may name .* the first is model-1/a\.versions/v_1"):
        archive.plan(bucket, "model-1", LocalDirectory(directory))


def test_a_directory_with_links_is_refused_with_each_of_them(tmp_path):
    (tmp_path / "file").write_text("1")
    (tmp_path / "one").symlink_to("file")
    (tmp_path / "two").symlink_to("/etc/passwd")

    with pytest.raises(ChangeRefused) as refused:
        LocalDirectory(tmp_path).files()

    assert len(refused.value.diagnostics) == 2


def test_a_full_disk_ends_a_restore_with_an_error_of_ours(bucket, directory, tmp_path, monkeypatch):
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    moved(bucket, directory)
    monkeypatch.setattr(LocalDirectory, "download", full)

    with pytest.raises(StepFailed, match=r"a file cannot be written: .*No space left on device"):
        restored(bucket, tmp_path / "back")
