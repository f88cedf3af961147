"""A directory of this computer with a folder of another account, which puts links into it at any moment."""

import hashlib
import os
from pathlib import Path

import pytest

from rackwright.errors import ChangeRefused, StepFailed, UserError
from rackwright.tiering import directory as module
from rackwright.tiering import loader
from rackwright.tiering.directory import LocalDirectory
from rackwright.tiering.manifest import ArchivedFile
from rackwright.tiering.meter import Meter
from rackwright.tiering.onhost import transfer, tree

CONTENT = b"ssh-ed25519 AAAA of another account\n"
FILE = ArchivedFile(
    path="theirs/sub/key", mode=0o600, bytes=len(CONTENT), sha256=hashlib.sha256(CONTENT).hexdigest()
)  # fmt: skip
STRANGER = 65534


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The directory, with a folder of another account; `home` is the operator's own, and has a file of that name."""
    for path in ("data/theirs/sub/key", "home/key"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(b"operator")
        os.utime(tmp_path / path, ns=(5, 5))
    return tmp_path / "data"


def swap(data: Path) -> None:
    """Put a link to the operator's folder into the place of the folder `sub`."""
    (data / "theirs/sub").rename(data / "theirs/.away")
    (data / "theirs/sub").symlink_to("../../home")


def meter() -> Meter:
    return Meter(lambda text: None, "downloaded", 0)


class OneObject:
    """A bucket whose objects all have the same content."""

    name = "b"

    def key(self, archive: str, path: str) -> str:
        return path

    def blocks(self, key: str, size: int, meter: Meter):
        return iter([CONTENT])


def test_a_file_that_becomes_a_link_after_it_was_listed_is_not_read(data, monkeypatch):
    really = module.digest_file

    def act(top: int, path: str):
        (data / path).unlink()
        (data / path).symlink_to(data.parent / "home/key")
        return really(top, path)

    monkeypatch.setattr(module, "digest_file", act)
    with pytest.raises(StepFailed, match="theirs/sub/key' cannot be read: Too many levels of symbolic links"):
        LocalDirectory(data).files()


def test_a_folder_that_becomes_a_link_after_it_was_listed_is_not_read(data, monkeypatch):
    really = module.digest_file

    def act(top: int, path: str):
        swap(data)
        return really(top, path)

    monkeypatch.setattr(module, "digest_file", act)
    with pytest.raises(ChangeRefused, match="theirs/sub/key is behind a link"):
        LocalDirectory(data).files()


def test_nothing_is_deleted_through_a_link(data):
    sources = LocalDirectory(data).files()
    swap(data)

    assert LocalDirectory(data).delete(sources) == ["theirs/sub/key"]
    assert (data.parent / "home/key").exists()


def test_a_folder_that_becomes_a_link_during_the_deletion_leads_nowhere(data, monkeypatch):
    (data / "aaa").write_text("first")
    sources = LocalDirectory(data).files()
    really = transfer.delete_file

    def act(top: int, path: str) -> None:
        really(top, path)
        monkeypatch.setattr(transfer, "delete_file", really)
        swap(data)

    monkeypatch.setattr(transfer, "delete_file", act)
    with pytest.raises(StepFailed, match="behind a link; 1 of 2 files were deleted") as failed:
        LocalDirectory(data).delete(sources)

    assert (data.parent / "home/key").exists() and "nothing was deleted" not in str(failed.value)


def test_a_link_of_the_same_size_and_time_is_no_file(data):
    sources = LocalDirectory(data).files()
    place = data / "theirs/sub/key"
    place.unlink()
    place.symlink_to("12345678")
    os.utime(place, ns=(5, 5), follow_symlinks=False)

    assert LocalDirectory(data).delete(sources) == ["theirs/sub/key"]
    assert place.is_symlink()


@pytest.mark.parametrize("large", [False, True])
def test_nothing_is_downloaded_through_a_link(data, monkeypatch, large):
    def fetch(bucket, key, size, put, meter):
        put(0, memoryview(CONTENT))
        yield 0, size

    monkeypatch.setattr(module, "LARGE_BYTES", 1 if large else 1 << 30)
    monkeypatch.setattr(loader, "fetch", fetch)
    swap(data)
    with pytest.raises(ChangeRefused, match="theirs/sub/key is behind a link"):
        LocalDirectory(data).download(OneObject(), "a", [FILE], meter())

    assert (data.parent / "home/key").read_bytes() == b"operator"
    (data / "theirs/sub").unlink()
    assert [*LocalDirectory(data).download(OneObject(), "a", [FILE], meter())] == [FILE.path]
    assert (data / FILE.path).read_bytes() == CONTENT
    assert (data / FILE.path).stat().st_mode & 0o777 == FILE.mode


def test_nothing_is_uploaded_through_a_link(data):
    (source,) = LocalDirectory(data).files()
    swap(data)
    with pytest.raises(ChangeRefused, match="behind a link"):
        LocalDirectory(data).upload(OneObject(), "a", source, meter())


def test_the_directory_itself_is_no_link_and_own_links_above_it_are_followed(data):
    (data.parent / "own").symlink_to(data.parent)
    (data.parent / "last").symlink_to(data)
    (data.parent / "foreign").symlink_to(data.parent)
    os.lchown(data.parent / "foreign", STRANGER, STRANGER)

    assert [each.file.path for each in LocalDirectory(data.parent / "own/data").files()] == ["theirs/sub/key"]
    for place in ("last", "foreign/data", "own/foreign/data"):
        with pytest.raises(ChangeRefused, match="behind a link"):
            LocalDirectory(data.parent / place).files()
        with pytest.raises(ChangeRefused, match="behind a link"):
            LocalDirectory(data.parent / place).download(OneObject(), "a", [FILE], meter())


def test_links_in_a_circle_are_refused(data):
    (data.parent / "one").symlink_to("two")
    (data.parent / "two").symlink_to("one")
    with pytest.raises(UserError, match="more than 40 links"):
        LocalDirectory(data.parent / "one/data").files()


def test_a_name_that_no_archive_can_hold_is_refused_before_any_file_is_read(data, monkeypatch):
    (Path(os.fsdecode(os.fsencode(data) + b"/theirs/\xff"))).write_text("x")
    monkeypatch.setattr(module, "digest_file", None)
    with pytest.raises(ChangeRefused, match=r"theirs/\\udcff: the name is not UTF-8"):
        LocalDirectory(data).files()


def test_a_relative_path_is_one_of_the_current_directory(data, monkeypatch):
    monkeypatch.chdir(data.parent)
    assert [each.file.path for each in LocalDirectory(Path("data")).files()] == ["theirs/sub/key"]
    assert [each.file.path for each in LocalDirectory(Path("home/../data")).files()] == ["theirs/sub/key"]
    assert LocalDirectory(Path("none")).files() == ()


def test_directories_of_a_listing_are_no_links(data):
    with tree.open_directory(data) as top:
        assert tree.directories_in(top) == ["theirs"]
        assert tree.directories_in(top, "theirs") == ["theirs/sub"]
        swap(data)
        assert tree.directories_in(top, "theirs") == []
        assert tree.directories_in(top, "theirs/sub") == []
