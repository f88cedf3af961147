"""A run starts only with room for its checkpoints, and one whose last checkpoint is not on the drive says so."""

import resource
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.support.training_runs import ROOT, config, environment, weights
from workloads.errors import UserError
from workloads.training import space
from workloads.training.config import Saving
from workloads.training.run import train

SAVING = Saving(every_steps=10, keep_last=3)


def with_free(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free))


@pytest.mark.parametrize(
    ("free", "steps", "fits"),
    [
        (400, 100, True), (399, 100, False),  # keep_last and the one that is written
        (100, 10, True), (99, 10, False),  # a run of one save
        (200, 11, True), (199, 11, False),
    ],
)  # fmt: skip
def test_there_is_room_for_one_checkpoint_more_than_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, steps: int, fits: bool
) -> None:
    with_free(monkeypatch, free)
    if fits:
        space.check_space(tmp_path / "checkpoints", 100, SAVING, steps)
    else:
        with pytest.raises(UserError, match=r"checkpoints: \d+ B are free on the drive, and \d checkpoints need \d+ B"):
            space.check_space(tmp_path / "checkpoints", 100, SAVING, steps)


def test_checkpoints_that_go_count_as_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "step-0000000010").mkdir()
    (tmp_path / "step-0000000010" / "shard").write_bytes(bytes(100))
    with_free(monkeypatch, 300)
    space.check_space(tmp_path, 100, SAVING, 100)
    with_free(monkeypatch, 299)
    with pytest.raises(UserError):
        space.check_space(tmp_path, 100, SAVING, 100)


def test_a_run_without_room_takes_no_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_free(monkeypatch, 1000)
    with pytest.raises(UserError, match=r"1 kB are free on the drive, and 2 checkpoints need .* no step was taken\."):
        train(config("digits"), tmp_path, {})
    assert not [line for line in (tmp_path / "metrics.jsonl").read_text().splitlines() if '"loss"' in line]
    assert not [*(tmp_path / "checkpoints").glob("step-*")]


def test_a_run_whose_last_save_failed_ends_with_it(tmp_path: Path) -> None:
    """
    No file may have more than 100 kB, and a checkpoint has more.
    """
    argv = [sys.executable, "-m", "workloads.training", "digits", "--set", "steps=20", "--set", "saving.every_steps=10",
            "--set", "device=cpu", "--out", str(tmp_path)]  # fmt: skip
    done = subprocess.run(argv, cwd=ROOT, env=environment(), capture_output=True, text=True, preexec_fn=small_files)
    assert done.returncode == 4, done.stderr
    last = done.stderr[done.stderr.rindex("error: ") :]
    assert "the checkpoint of step 20 is not saved: " in last
    assert "File too large" in last
    assert "Free space on the drive, or repair it, and start the run again with the same --out" in last
    assert "the run then begins again: it has no checkpoint" in last
    assert "finished" not in done.stdout

    assert subprocess.run(argv, cwd=ROOT, env=environment(), capture_output=True, text=True).returncode == 0
    train(config("digits", "steps=20", "saving.every_steps=10"), tmp_path / "whole", {})
    assert weights(tmp_path).keys() == weights(tmp_path / "whole").keys()


def small_files() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))


def test_the_error_names_the_step_to_resume_after(tmp_path: Path) -> None:
    error = space.not_saved(tmp_path, 60, "no space left", 10)
    assert (error.exit_status, error.diagnostic.note) == (4, "the run then resumes after step 10")
