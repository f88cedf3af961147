"""Checkpoints of a running training: saved, kept, taken again, whatever happens to the writing."""

import os
import shutil
import signal
import subprocess

import pytest

from tests.support import sample_checkpoints
from workloads.checkpoint import CheckpointRequestError, Checkpoints, layout, load, newest


def test_what_was_saved_last_is_loaded_first(tmp_path):
    with Checkpoints(tmp_path / "new" / "checkpoints") as checkpoints:
        assert checkpoints.newest() is None
        for step in (10, 20):
            checkpoints.save(step, sample_checkpoints.state(step))

    with Checkpoints(tmp_path / "new" / "checkpoints") as again:
        found = again.newest()
        assert found.step == 20
        assert again.load(found) == sample_checkpoints.state(20)
        assert again.load(again.at_step(10)) == sample_checkpoints.state(10)


def test_those_that_need_not_stay_go(tmp_path):
    with Checkpoints(tmp_path, keep_last=2, keep_every=4) as checkpoints:
        for step in range(1, 8):
            checkpoints.save(step, sample_checkpoints.state(step))

    assert layout.steps(tmp_path) == [4, 6, 7]


def test_where_the_writing_process_dies_the_training_goes_on(tmp_path, capfd):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, sample_checkpoints.state(1))
        assert checkpoints.wait()
        process = checkpoints._writer._process
        os.kill(process.pid, signal.SIGKILL)
        process.wait()

        checkpoints.save(2, sample_checkpoints.state(2))
        first = checkpoints.wait()
        checkpoints.save(3, sample_checkpoints.state(3))
        assert checkpoints.wait()
        assert checkpoints.committed == 3

    assert newest(tmp_path).step == 3
    assert first or "STEP 2 IS NOT SAVED" in capfd.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_writing_process_leaves_it_to_the_training_when_to_stop(tmp_path, number):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, sample_checkpoints.state(1))
        assert checkpoints.wait()
        process = checkpoints._writer._process
        os.kill(process.pid, number)
        checkpoints.save(2, sample_checkpoints.state(2))
        assert checkpoints.wait()
        assert checkpoints._writer._process is process

    assert process.returncode == 0


def test_what_cannot_be_written_is_reported_and_tried_again(tmp_path, capfd):
    directory, away = tmp_path / "checkpoints", tmp_path / "away"
    with Checkpoints(directory) as checkpoints:
        checkpoints.save(1, sample_checkpoints.state(1))
        assert checkpoints.wait()
        directory.rename(away)  # as if the tier were not mounted any more
        checkpoints.save(2, sample_checkpoints.state(2))
        assert not checkpoints.wait()
        assert "No such file or directory" in checkpoints.failure
        assert checkpoints.committed == 1
        away.rename(directory)
        checkpoints.save(3, sample_checkpoints.state(3))
        assert checkpoints.wait()
        assert checkpoints.failure == ""

    assert "STEP 2 IS NOT SAVED" in capfd.readouterr().err
    assert layout.steps(directory) == [1, 3]


@pytest.fixture
def small(tmp_path):
    """A filesystem with room for two checkpoints, and a little more."""
    tmp_path = tmp_path / "small"
    tmp_path.mkdir()
    size = int(len(sample_checkpoints.TEXT) * 2.7)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(tmp_path)], check=True)
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_a_full_drive_costs_the_new_one_and_no_other(small, capfd):
    with Checkpoints(small, keep_last=5) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(step, sample_checkpoints.state(step))
            assert checkpoints.wait() == (step < 3)
        assert "No space left on device" in checkpoints.failure
        assert "STEP 3 IS NOT SAVED" in capfd.readouterr().err
        assert [path.name for path in small.iterdir() if "partial" in path.name] == []
        shutil.rmtree(small / layout.step_name(1))
        checkpoints.save(4, sample_checkpoints.state(4))
        assert checkpoints.wait()

    assert layout.steps(small) == [2, 4]
    assert load(newest(small)) == sample_checkpoints.state(4)


def test_two_ranks_make_one_checkpoint(tmp_path):
    ranks = [Checkpoints(tmp_path, rank=rank, world=2, run="r") for rank in (0, 1)]
    for step in (1, 2):
        for rank, checkpoints in enumerate(ranks):
            checkpoints.save(step, {"rank": rank, "step": step})
    assert [checkpoints.wait() for checkpoints in ranks] == [True, True]
    for checkpoints in ranks:
        checkpoints.close()

    found = newest(tmp_path)
    assert found.step == 2
    assert len(found.manifest.files) == 4
    for rank in (0, 1):
        assert load(found, rank, 2) == {"rank": rank, "step": 2}
    (found.path / layout.shard_name(1, 2, layout.VALUES)).unlink()
    assert newest(tmp_path).step == 1


def test_a_rank_that_never_comes_costs_the_checkpoint_alone(tmp_path, capfd):
    with Checkpoints(tmp_path, rank=0, world=2, run="r", shards_seconds=0.2) as checkpoints:
        checkpoints.save(1, {})
        assert not checkpoints.wait()
        assert "waited for the shard of rank 1" in checkpoints.failure

    assert layout.steps(tmp_path) == []


def test_another_number_of_ranks_is_refused(tmp_path):
    sample_checkpoints.make(tmp_path, 1)

    with pytest.raises(
        CheckpointRequestError, match="the checkpoint is in 1 shard; one shard for each of this run's ranks: 2"
    ):
        load(newest(tmp_path), 0, 2)


def test_ranks_without_a_common_word_are_refused(tmp_path):
    with pytest.raises(CheckpointRequestError, match="run: the identifier of the run is missing"):
        Checkpoints(tmp_path, rank=0, world=2)


def test_one_directory_has_one_training(tmp_path):
    with (
        Checkpoints(tmp_path),
        pytest.raises(CheckpointRequestError, match="one training for each directory"),
    ):
        Checkpoints(tmp_path, lock_seconds=0)
    Checkpoints(tmp_path, lock_seconds=0).close()


def test_the_last_save_before_the_power_goes(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, sample_checkpoints.state(1))
        assert checkpoints.save_within(600, 1, sample_checkpoints.state(1)) == 1
        assert checkpoints.save_within(600, 2, sample_checkpoints.state(2)) == 2

    assert layout.steps(tmp_path) == [1, 2]


def test_no_snapshot_is_begun_that_cannot_be_finished(tmp_path, capfd):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, sample_checkpoints.state(1))
        assert checkpoints.wait()
        assert checkpoints.save_within(0, 2, sample_checkpoints.state(2)) == 1

    assert "no time to save step 2" in capfd.readouterr().err
    assert layout.steps(tmp_path) == [1]
