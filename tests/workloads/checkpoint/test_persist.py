"""The order in which things reach the drive, and what the shards of several ranks do."""

import mmap
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from workloads.checkpoint import disk, layout, newest, persist
from workloads.checkpoint.persist import CheckpointNotCommitted, WriteRequest, WriterSettings

ORDER = WriteRequest(step=7, bytes=10_000, values="{}")
SECOND = "shard-00001-of-00002"


@pytest.fixture
def memory():
    pages = mmap.mmap(-1, 3 * disk.PAGE)
    pages[:] = os.urandom(len(pages))
    return memoryview(pages)


@pytest.fixture
def alone(tmp_path):
    return WriterSettings(str(tmp_path), 0, 1, "run", 3, None, -1, None, 0.1)


def test_everything_is_on_the_drive_before_it_gets_its_name(alone, memory, monkeypatch):
    lines: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def recording_fsync(descriptor):
        lines.append(f"fsync {Path(f'/proc/self/fd/{descriptor}').readlink().name}")
        fsync(descriptor)

    def recording_rename(path, target):
        lines.append(f"rename {path.name} {Path(target).name}")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", recording_fsync)
    monkeypatch.setattr(Path, "rename", recording_rename)
    persist.persist(ORDER, alone, memory)

    partial, whole = ".step-0000000007.run.partial", "step-0000000007"
    commit = lines.index(f"rename {partial} {whole}")
    shard = "shard-00000-of-00001"
    assert {f"fsync {name}" for name in (f"{shard}.safetensors", f"{shard}.json", "manifest.json", partial)} <= set(
        lines[:commit]
    )
    assert lines[commit - 1] == f"fsync {partial}"
    assert lines[commit + 1 :] == [f"fsync {Path(alone.directory).name}"]


def test_the_file_is_the_memory_up_to_its_size(alone, memory, tmp_path):
    persist.persist(ORDER, alone, memory)

    [path] = tmp_path.glob("step-*/*.safetensors")
    assert path.read_bytes() == memory[:10_000]
    assert newest(tmp_path).step == 7


def test_a_checkpoint_of_the_same_step_takes_the_place_of_the_old_one(alone, memory, tmp_path):
    persist.persist(ORDER, alone, memory)
    persist.persist(replace(ORDER, values='{"map": []}'), alone, memory)

    [path] = tmp_path.iterdir()  # and none that stands aside
    assert (path / "shard-00000-of-00001.json").read_text() == '{"map": []}'
    assert newest(tmp_path).step == 7


def test_rank_0_does_not_commit_without_the_others(alone, memory, tmp_path):
    with pytest.raises(CheckpointNotCommitted, match="the shard of rank 1"):
        persist.persist(ORDER, replace(alone, world=2), memory)

    assert list(tmp_path.iterdir()) == []


def test_rank_0_gives_up_at_once_where_another_has_failed(alone, memory, tmp_path):
    partial = layout.partial_path(tmp_path, 7, "run")
    partial.mkdir()
    (partial / f"{SECOND}.failed").touch()

    with pytest.raises(CheckpointNotCommitted, match="rank 1 could not write its shard"):
        persist.persist(ORDER, replace(alone, world=2, shards_seconds=1e6), memory)


def test_a_rank_that_cannot_write_says_so_to_rank_0(alone, memory, tmp_path):
    partial = layout.partial_path(tmp_path, 7, "run")
    partial.mkdir()
    (partial / f"{SECOND}.json").mkdir()  # in the way

    with pytest.raises(OSError):
        persist.persist(ORDER, replace(alone, rank=1, world=2), memory)

    assert (partial / f"{SECOND}.failed").exists()
    assert not (partial / f"{SECOND}.safetensors").exists()


def test_another_attempt_at_the_same_step_is_another_directory(alone, memory, tmp_path):
    for run in ("first", "second"):
        persist.persist(ORDER, replace(alone, rank=1, world=2, run=run), memory)

    assert {path.name for path in tmp_path.iterdir()} == {
        layout.partial_path(tmp_path, 7, r).name for r in ("first", "second")
    }


def test_a_second_try_at_a_step_is_not_hindered_by_the_first(alone, memory, tmp_path):
    first, second = replace(alone, world=2), replace(alone, world=2, rank=1)
    partial = layout.partial_path(tmp_path, 7, "run")
    partial.mkdir()
    for name in (f"{SECOND}.failed", f"{SECOND}.safetensors", f"{SECOND}.json", f"{SECOND}.part", f"{SECOND}.part.new"):
        (partial / name).touch()

    persist.persist(ORDER, second, memory)
    persist.persist(ORDER, first, memory)

    assert newest(tmp_path).step == 7
    assert len(list((tmp_path / "step-0000000007").iterdir())) == 5  # four files and their manifest


@pytest.mark.parametrize(("rank", "free", "fits"), [(0, 20_003, False), (0, 20_004, True), (1, 10_001, False)])
def test_without_room_for_all_shards_nothing_is_written(
    alone, memory, tmp_path, monkeypatch, rank: int, free: int, fits: bool
):
    monkeypatch.setattr(persist.shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    settings = replace(alone, rank=rank, world=2)
    with pytest.raises((OSError, CheckpointNotCommitted)) as error:  # the other rank has written nothing in any case
        persist.persist(ORDER, settings, memory)
    assert ("No space left on device" in str(error.value)) is not fits
    assert [*tmp_path.glob("**/*.safetensors")] == []
