"""Atomic writes: the old content or the new one, with the asked mode, and nothing left behind."""

import os

import pytest

from workloads.errors import UserError
from workloads.files import copy_atomic, linked_elsewhere, refuse_links, replacing, write_atomic


def mode(path):
    return path.stat().st_mode & 0o7777


def test_a_new_file_has_the_asked_mode_whatever_the_umask(tmp_path):
    before = os.umask(0o077)
    try:
        write_atomic(tmp_path / "a", "text")
        write_atomic(tmp_path / "b", b"bytes", 0o640)
    finally:
        os.umask(before)

    assert ((tmp_path / "a").read_text(), mode(tmp_path / "a")) == ("text", 0o644)
    assert ((tmp_path / "b").read_bytes(), mode(tmp_path / "b")) == (b"bytes", 0o640)


def test_an_existing_file_keeps_its_mode(tmp_path):
    path = tmp_path / "fleet.yaml"
    path.write_text("old")
    path.chmod(0o600)

    write_atomic(path, "new")

    assert (path.read_text(), mode(path)) == ("new", 0o600)


def test_a_failure_leaves_the_old_content_and_no_other_file(tmp_path):
    path = tmp_path / "a"
    path.write_text("old")

    with pytest.raises(RuntimeError), replacing(path) as file:
        file.write(b"half")
        raise RuntimeError

    assert path.read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["a"]


def test_a_reader_sees_the_old_content_until_the_end(tmp_path):
    path = tmp_path / "a"
    path.write_text("old")

    with replacing(path) as file:
        file.write(b"new")
        file.flush()
        seen = path.read_text()

    assert (seen, path.read_text()) == ("old", "new")


def test_a_copy_has_the_content_of_its_source(tmp_path):
    (tmp_path / "a").write_bytes(b"x" * 100_000)

    copy_atomic(tmp_path / "a", tmp_path / "b")

    assert (tmp_path / "b").read_bytes() == b"x" * 100_000


def test_a_link_is_replaced_and_its_target_stays(tmp_path):
    (tmp_path / "target").write_text("old")
    (tmp_path / "link").symlink_to("target")

    write_atomic(tmp_path / "link", "new")

    assert (tmp_path / "target").read_text() == "old"
    assert not (tmp_path / "link").is_symlink()


def test_a_link_leads_into_the_directory_or_into_the_cache_of_hugging_face_alone(tmp_path):
    snapshot, blobs = tmp_path / "models--a--b" / "snapshots" / "1f", tmp_path / "models--a--b" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for path in (blobs / "0", tmp_path / "other", snapshot / "own"):
        path.touch()
    links = {"inside": "own", "blob": "../../blobs/0", "outside": "../../../other", "above": "../../../models--a--b"}
    for name, target in links.items():
        (snapshot / name).symlink_to(target)
    files = [snapshot / name for name in ("own", *links)]

    assert linked_elsewhere(snapshot, files) == [snapshot / "outside", snapshot / "above"]
    with pytest.raises(UserError, match=f"outside: it is a link to {tmp_path}/other"):
        refuse_links(snapshot, files)
    plain = snapshot.rename(tmp_path / "plain")
    assert linked_elsewhere(plain, [plain / "inside", plain / "blob"]) == [plain / "blob"], "no snapshot of that cache"
