"""Archives: what is written can be taken back, and what is not whole is never taken for whole."""

import io
import shutil
import tarfile

import pytest

from tests.support import sample_checkpoints
from workloads.checkpoint import CheckpointDamaged, CheckpointRequestError, layout, load, newest
from workloads.checkpoint.archive import ArchiveIOError, Compression, backup, restore, verify

EACH = pytest.mark.parametrize("compression", list(Compression))


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    directory = tmp_path_factory.mktemp("two") / "digits"
    sample_checkpoints.make(directory, 10, 20)
    return directory


@pytest.fixture
def copied(two, tmp_path):
    shutil.copytree(two, tmp_path / "digits")
    return tmp_path / "digits"


@EACH
def test_a_checkpoint_comes_back_as_it_was(two, tmp_path, compression):
    made_ = backup(two, tmp_path / "archives", compression=compression)
    assert made_.path.name.startswith("digits-step-0000000020-2")
    assert made_.path.name.endswith("Z.tar" if compression == Compression.none else f"Z.tar.{compression}")
    assert verify(made_.path) == made_

    back = restore(made_.path, tmp_path / "back")

    assert (back.step, back.files, back.bytes) == (made_.step, made_.files, made_.bytes)
    assert sample_checkpoints.content(back.path) == sample_checkpoints.content(two / layout.step_name(20))
    assert load(newest(tmp_path / "back")) == sample_checkpoints.state(20)
    assert [path.name for path in (tmp_path / "back").iterdir()] == [back.path.name]
    assert [path.name for path in (tmp_path / "archives").iterdir()] == [made_.path.name]


def test_an_older_step_can_be_asked_for(two, tmp_path):
    assert backup(two, tmp_path, step=10).step == 10
    with pytest.raises(
        CheckpointRequestError, match="the directory has no checkpoint of step 15; one of the steps 10, 20"
    ):
        backup(two, tmp_path, step=15)


def test_the_newest_that_is_intact_is_taken(copied, tmp_path):
    sample_checkpoints.flip(sample_checkpoints.files(copied, 20)[1], 3)
    assert backup(copied, tmp_path).step == 10

    with pytest.raises(CheckpointDamaged):
        backup(copied, tmp_path / "none", step=20)
    assert list((tmp_path / "none").iterdir()) == []


@EACH
def test_no_flipped_byte_passes(two, tmp_path, compression):
    """All over the archive; one that changes nothing that is kept, as in the padding of tar, does no harm."""
    path = backup(two, tmp_path, compression=compression).path
    found, size = 0, path.stat().st_size
    wanted = sample_checkpoints.content(two / layout.step_name(20))
    for number, offset in enumerate(range(0, size, max(1, size // 40))):
        sample_checkpoints.flip(path, offset)
        try:
            back = restore(path, tmp_path / f"back-{number}")
            assert sample_checkpoints.content(back.path) == wanted
        except CheckpointDamaged:
            found += 1
            assert list((tmp_path / f"back-{number}").iterdir()) == []
        sample_checkpoints.flip(path, offset)
    assert found > 35  # of 40


@EACH
def test_a_short_archive_is_not_taken_for_whole(two, tmp_path, compression):
    path = backup(two, tmp_path, compression=compression).path
    content = path.read_bytes()
    for part in (0, 1, 300, len(content) // 2, int(len(content) * 0.9)):
        path.write_bytes(content[:part])
        with pytest.raises(CheckpointDamaged):
            restore(path, tmp_path / "back")
        with pytest.raises(CheckpointDamaged):
            verify(path)
    assert list((tmp_path / "back").iterdir()) == []


def test_what_is_there_is_not_overwritten(two, copied, tmp_path):
    path = backup(two, tmp_path).path
    sample_checkpoints.flip(sample_checkpoints.files(copied, 20)[1], 3)
    before = sample_checkpoints.content(copied)

    with pytest.raises(CheckpointRequestError, match="a checkpoint is never overwritten"):
        restore(path, copied)
    assert sample_checkpoints.content(copied) == before


def crafted(path, *members):
    """Write a tar file of (name, content, type)."""
    with tarfile.open(path, "w") as tar:
        for name, content, sort in members:
            info = tarfile.TarInfo(name)
            info.size, info.type, info.linkname = len(content), sort, "/etc/passwd"
            tar.addfile(info, io.BytesIO(content))


@pytest.mark.parametrize("name", ["/etc/evil", "../evil", "step-0000000020/../../evil", "step-0000000020/extra"])
@pytest.mark.parametrize("sort", [tarfile.REGTYPE, tarfile.SYMTYPE])
def test_nothing_but_the_files_of_the_manifest_is_taken_out(two, tmp_path, name, sort):
    files = {path.name: path.read_bytes() for path in sample_checkpoints.files(two, 20)}
    good = [(f"step-0000000020/{name}", content, tarfile.REGTYPE) for name, content in sorted(files.items())]
    crafted(tmp_path / "good.tar", *good)
    assert verify(tmp_path / "good.tar").step == 20
    crafted(tmp_path / "evil.tar", *good, (name, b"" if sort == tarfile.SYMTYPE else b"evil", sort))

    with pytest.raises(CheckpointDamaged, match="which is not in its manifest"):
        restore(tmp_path / "evil.tar", tmp_path / "deep" / "back")
    assert list((tmp_path / "deep" / "back").iterdir()) == []
    assert not list(tmp_path.rglob("evil")) and not list(tmp_path.rglob("extra"))


def test_a_link_in_the_place_of_a_file_is_not_followed(two, tmp_path):
    files = {path.name: path.read_bytes() for path in sample_checkpoints.files(two, 20)}
    members = [(f"step-0000000020/{name}", content, tarfile.REGTYPE) for name, content in sorted(files.items())]
    members[1] = (members[1][0], b"", tarfile.SYMTYPE)
    crafted(tmp_path / "link.tar", *members)

    with pytest.raises(CheckpointDamaged):
        restore(tmp_path / "link.tar", tmp_path / "back")


def test_what_is_no_archive_is_refused(tmp_path):
    (tmp_path / "text").write_text("no archive")
    with pytest.raises(CheckpointDamaged, match="no archive of a checkpoint"):
        verify(tmp_path / "text")
    with pytest.raises(ArchiveIOError, match="No such file or directory"):
        verify(tmp_path / "nothing")
    with pytest.raises(CheckpointRequestError, match="the directory has no checkpoint; directories step-…"):
        backup(tmp_path, tmp_path)


def test_where_it_cannot_be_written_nothing_is_left(two, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ArchiveIOError):
        backup(two, tmp_path / "file")
    path = backup(two, tmp_path).path
    with pytest.raises(ArchiveIOError):
        restore(path, tmp_path / "file")
