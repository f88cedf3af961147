"""A directory of another account: a link that the account puts into a path at any moment leads nowhere."""

import os
from pathlib import Path

import pytest

from rackwright.tiering.onhost import placing, tree
from rackwright.tiering.onhost.tree import TransferFailed


@pytest.fixture
def job(tmp_path) -> dict[str, object]:
    """A move of `run` to `cold`; `secret` belongs to root, and has a file with a name that `run` has as well."""
    for path in ("run/shards/1.bin", "run/shards/2.bin", "secret/1.bin", "secret/2.bin"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(path)
    return {"directory": str(tmp_path / "run"), "target": str(tmp_path / "cold"), "mount": "", "bytes_per_second": None}


def swap(directory: Path, target: Path) -> None:
    """Put a link to *target* into the place of *directory*."""
    directory.rename(directory.with_name("away"))
    directory.symlink_to(target)


def test_no_part_of_a_path_may_be_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real/file").write_text("x")
    (tmp_path / "link").symlink_to("real")

    with pytest.raises(TransferFailed, match="link is behind a link"), tree.open_directory(tmp_path / "link"):
        pass
    with pytest.raises(TransferFailed, match="file is no directory"), tree.open_directory(tmp_path / "real/file"):
        pass
    with pytest.raises(TransferFailed, match="no absolute path"), tree.open_directory(tmp_path / "real/../real"):
        pass
    with tree.open_directory(tmp_path) as top:
        for use in (tree.open_file, tree.replace_file):
            with pytest.raises(TransferFailed, match="link/file is behind a link"), use(top, "link/file"):
                pass
        for change in (tree.delete_file, tree.status_of, tree.make_directory):
            with pytest.raises(TransferFailed, match="is behind a link"):
                change(top, "link/file")
        for path in ("../x", "real//file", "", "/etc/passwd"):
            with pytest.raises(TransferFailed, match="is no path of a file"):
                tree.delete_file(top, path)
    assert (tmp_path / "real/file").read_text() == "x"


def test_the_last_part_may_be_no_link_either(tmp_path):
    (tmp_path / "link").symlink_to("/etc/passwd")

    with (
        tree.open_directory(tmp_path) as top,
        pytest.raises(OSError, match="symbolic links"),
        tree.open_file(top, "link"),
    ):
        pass


def test_a_fifo_in_the_place_of_a_file_blocks_nothing(tmp_path):
    os.mkfifo(tmp_path / "fifo")

    with (
        tree.open_directory(tmp_path) as top,
        pytest.raises(TransferFailed, match="fifo is no file"),
        tree.open_file(top, "fifo"),
    ):
        pass


def test_endless_directories_are_refused(tmp_path):
    (tmp_path / "/".join(["d"] * (tree.DEPTH_MAX + 2))).mkdir(parents=True)

    with tree.open_directory(tmp_path) as top, pytest.raises(TransferFailed, match="more than 128 directories"):
        list(tree.walk(top))


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    (tmp_path / "file").write_text("before")
    with tree.open_directory(tmp_path) as top:
        with pytest.raises(ZeroDivisionError), tree.replace_file(top, "file") as file:
            file.write(b"half")
            raise ZeroDivisionError
        assert [each.name for each in tmp_path.iterdir()] == ["file"]
        assert (tmp_path / "file").read_text() == "before"
        with tree.replace_file(top, "file") as file:
            file.write(b"after")
    assert (tmp_path / "file").read_text() == "after"


def test_a_move_keeps_owner_mode_and_time_and_leaves_no_source(job, tmp_path, capsys):
    os.chown(tmp_path / "run/shards", 1234, 1234)
    os.chown(tmp_path / "run/shards/1.bin", 1234, 1234)
    (tmp_path / "run/shards/1.bin").chmod(0o640)
    os.utime(tmp_path / "run/shards", (5, 5))

    placing.relocate(job)

    found, directory = (tmp_path / "cold/shards/1.bin").stat(), (tmp_path / "cold/shards").stat()
    assert (found.st_uid, found.st_mode & 0o777, directory.st_uid, directory.st_mtime) == (1234, 0o640, 1234, 5)
    assert (tmp_path / "cold/shards/1.bin").read_text() == "run/shards/1.bin"
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("moment", ["_copy_all", "delete_all"])
def test_a_directory_that_becomes_a_link_during_a_move_leads_nowhere(job, tmp_path, monkeypatch, capsys, moment):
    really = getattr(placing, moment)

    def act(*arguments):
        monkeypatch.setattr(placing, moment, really)
        swap(tmp_path / "run/shards", tmp_path / "secret")
        return really(*arguments)

    monkeypatch.setattr(placing, moment, act)
    with pytest.raises(TransferFailed, match="is behind a link"):
        placing.relocate(job)

    assert {each.name for each in (tmp_path / "secret").iterdir()} == {"1.bin", "2.bin"}
    assert not [each for each in (tmp_path / "cold").rglob("*.bin") if each.read_text().startswith("secret")]


def test_a_target_that_is_a_link_gets_no_file(job, tmp_path, capsys):
    (tmp_path / "cold").mkdir()
    (tmp_path / "cold/shards").symlink_to(tmp_path / "secret")
    (tmp_path / "secret/1.bin").unlink()

    with pytest.raises(TransferFailed, match="is behind a link"):
        placing.relocate(job)

    assert not (tmp_path / "secret/1.bin").exists()
    assert (tmp_path / "run/shards/1.bin").exists()
