"""The loader of large objects: parts by several requests, with the digest of the whole."""

import hashlib
import os

import pytest

from rackwright.tiering import archive, loader
from rackwright.tiering.directory import LocalDirectory
from rackwright.tiering.loader import ObjectChanged
from rackwright.tiering.manifest import ArchiveDamaged
from rackwright.tiering.meter import Meter

PART = 1 << 20
METER = Meter(lambda text: None, "", 0)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(loader, "PART_BYTES", PART)
    monkeypatch.setattr("rackwright.tiering.directory.LARGE_BYTES", 2 * PART)


def test_an_object_is_loaded_whole(bucket):
    for size in (1, PART, 5 * PART + 1):
        content = os.urandom(size)
        bucket.client.put_object(Bucket=bucket.name, Key="object", Body=content)

        memory, digest = loader.load(bucket, "object", size, METER)

        assert (memory[:], digest) == (content, hashlib.sha256(content).hexdigest())


def test_an_object_of_another_size_is_noticed(bucket):
    bucket.client.put_object(Bucket=bucket.name, Key="object", Body=bytes(2 * PART))

    with pytest.raises(ObjectChanged):
        loader.load(bucket, "object", PART, METER)
    with pytest.raises((ObjectChanged, bucket.client.exceptions.ClientError)):
        loader.load(bucket, "object", 3 * PART, METER)


def archived(bucket, tmp_path, content: bytes):
    (tmp_path / "model").mkdir()
    (tmp_path / "model/large.bin").write_bytes(content)
    (tmp_path / "model/large.bin").chmod(0o640)
    source = LocalDirectory(tmp_path / "model")
    archive.move(bucket, archive.plan(bucket, "model-1", source), source, False, None, lambda text: None)
    return archive.load_manifest(bucket, "model-1")


def test_a_large_file_is_restored_by_parts(bucket, tmp_path, monkeypatch):
    content = os.urandom(4 * PART + 7)
    manifest = archived(bucket, tmp_path, content)
    monkeypatch.setattr(LocalDirectory, "_download", None)  # nothing is left for the plain download

    archive.restore(bucket, manifest, LocalDirectory(tmp_path / "back"), lambda text: None)

    place = tmp_path / "back/large.bin"
    assert (place.read_bytes(), place.stat().st_mode & 0o777) == (content, 0o640)


def test_a_damaged_large_file_is_not_written(bucket, tmp_path):
    manifest = archived(bucket, tmp_path, os.urandom(4 * PART))
    key = bucket.key("model-1", "large.bin")
    for damaged, problem in ((bytes(4 * PART), "4194304 bytes"), (b"short", "5 bytes"), (None, "missing")):
        if damaged is None:
            bucket.client.delete_object(Bucket=bucket.name, Key=key)
        else:
            bucket.client.put_object(Bucket=bucket.name, Key=key, Body=damaged)

        with pytest.raises(ArchiveDamaged, match=rf"large\.bin: {problem}"):
            archive.restore(bucket, manifest, LocalDirectory(tmp_path / "back"), lambda text: None)

        assert not [path for path in (tmp_path / "back").rglob("*") if path.is_file()]
