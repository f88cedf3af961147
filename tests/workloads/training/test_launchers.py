"""Two real processes, by Horovod and by torchrun: the same weights as alone, and the wrong launcher refused.

None of these is skipped: where Horovod is missing they fail, and say how it is built.
"""

from pathlib import Path

import pytest

from tests.workloads.training.runs import (
    HOROVODRUN,
    TORCHRUN,
    assert_close,
    assert_same,
    launched,
    told,
    weights,
)


def test_horovod_is_there() -> None:
    """
    `rackwright toolchain workloads` builds it; without it a run falls back to torchrun, and this fails.
    """
    import horovod.torch as hvd

    assert hvd.gloo_built()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where a run of one process has written."""
    out = tmp_path_factory.mktemp("whole")
    launched((), 1, out)
    return out


@pytest.mark.parametrize(("launcher", "name"), [(HOROVODRUN, "horovod"), (TORCHRUN, "torchrun")], ids=["hvd", "ddp"])
def test_two_processes_train_what_one_does(launcher: tuple[str, ...], name: str, whole: Path, tmp_path: Path) -> None:
    said = launched(launcher, 2, tmp_path, f"launcher={name}", "world=2", "accumulate=2")

    assert f"digits: {name}, world of 2; CPU; fp32" in said
    assert_close(weights(whole), weights(tmp_path))
    for rank in ("0", "1"):  # each has a file of its own, with the loss of both
        lines = told(tmp_path, rank)
        assert (lines[0]["rank"], lines[0]["world"]) == (int(rank), 2)
        assert [line["loss"] for line in lines if "loss" in line] == pytest.approx(
            [line["loss"] for line in told(whole) if "loss" in line], rel=1e-3
        )


def test_two_processes_of_horovod_go_on_exactly(tmp_path: Path) -> None:
    launched(HOROVODRUN, 2, tmp_path / "whole")
    launched(HOROVODRUN, 2, tmp_path / "parts", "steps=12", "saving.every_steps=5")
    last = tmp_path / "parts" / "checkpoints" / "step-0000000012"
    last.rename(tmp_path / "forgotten")
    said = launched(HOROVODRUN, 2, tmp_path / "parts")

    assert "goes on after step 10" in said
    assert_same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))


def test_compression_is_a_choice(whole: Path, tmp_path: Path) -> None:
    launched(HOROVODRUN, 2, tmp_path, "compression=fp16")
    with pytest.raises(AssertionError):
        assert_same(weights(whole), weights(tmp_path))
    first, *_ = (line["loss"] for line in told(tmp_path) if "loss" in line)
    last = [line["loss"] for line in told(tmp_path) if "loss" in line][-1]
    assert last < first


@pytest.mark.parametrize(
    ("launcher", "meant", "says"),
    [
        (TORCHRUN, "horovod", "launcher: got a start by torchrun, 2 processes; this run is for horovod."),
        (HOROVODRUN, "torchrun", "launcher: got a start by horovod, 2 processes; this run is for torchrun."),
    ],
    ids=["torchrun", "horovodrun"],
)
def test_the_wrong_launcher_is_refused(launcher: tuple[str, ...], meant: str, says: str, tmp_path: Path) -> None:
    said = launched(launcher, 2, tmp_path, f"launcher={meant}", status=None)
    assert said.count(says) == 1, said
    assert not (tmp_path / "metrics.jsonl").exists()


def test_a_batch_that_two_cannot_share_is_refused(tmp_path: Path) -> None:
    said = launched(HOROVODRUN, 2, tmp_path, "global_batch=25", status=1)
    assert "global_batch: got 25; 2 processes share it in equal parts. Write 24 or 26" in said
    assert not (tmp_path / "metrics.jsonl").exists()
