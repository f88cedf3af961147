"""Manifests: what is read from a bucket is checked before a path of it is used."""

import json

import pytest

from rackwright.errors import ChangeRefused
from rackwright.tiering import manifest
from rackwright.tiering.manifest import ArchiveDamaged, ArchivedFile, Manifest

FILE = ArchivedFile(path="a/b", bytes=1, sha256="0" * 64, mode=0o644)
MADE = Manifest(name="model-1", files=(FILE,))


def test_a_manifest_is_read_as_it_was_written():
    assert manifest.parse(MADE.render(), "s3://models/model-1") == MADE


def test_a_manifest_keeps_its_content_until_a_canary_is_recorded():
    noted = MADE.model_copy(update={"canary": "1" * 64})

    assert b"canary" not in MADE.render()
    assert manifest.parse(noted.render(), "s3://models/model-1") == noted
    assert noted.without_canary == MADE


@pytest.mark.parametrize("path", ["../a", "/etc/passwd", "a/../../b", "", "a//b", "./a", "a\0"])
def test_a_path_out_of_the_directory_is_no_manifest(path):
    plain = MADE.model_dump(mode="json")
    plain["files"][0]["path"] = path
    content = json.dumps({**plain, "sha256": manifest._digest(plain)}).encode()

    with pytest.raises(ArchiveDamaged, match="the object is no manifest: 1 values are wrong"):
        manifest.parse(content, "s3://models/model-1")


@pytest.mark.parametrize("path", ["m.versions/v_1", "a/.versions/b", ".uploads/1", "a/m.versions"])
def test_an_archive_with_files_of_the_store_itself_is_not_read(path):
    made = Manifest(name="model-1", files=(FILE.model_copy(update={"path": path}),))

    with pytest.raises(ArchiveDamaged, match=f"the archive has the path model-1/{path}"):
        manifest.parse(made.render(), "s3://models/model-1")


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b"{}", b"\xff", b"[" * 100_000])
def test_other_objects_are_no_manifests(content):
    with pytest.raises(ArchiveDamaged):
        manifest.parse(content, "s3://models/model-1")


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden", "a" * 129])
def test_other_names_are_refused(name):
    with pytest.raises(ChangeRefused, match="--name"):
        manifest.check_name(name)
