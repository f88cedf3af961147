"""Two processes by the real Horovod and torchrun: the same weights as alone, and the wrong launcher refused.

None of these is skipped: where Horovod is missing they fail, and say how it is built. Launchers and processes
are forks of one process that has imported PyTorch; test_elastic.py and test_apart.py start their programs.
"""

import shutil
from pathlib import Path

import pytest

from tests.support.diagnostics import sentences
from tests.support.training_runs import (
    HOROVODRUN,
    TORCHRUN,
    assert_close,
    assert_same,
    config,
    launched,
    read_metrics,
    weights,
)
from workloads.training.run import train


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
    train(config(), out, {})
    return out


LED = ("world=2", "accumulate=2", "saving.every_steps=5")
"""How the two of a launcher train; with checkpoints that another run can go on from."""


@pytest.fixture(scope="module")
def by_horovod(python: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """Return the output of a run of two processes, and its directory."""
    out = tmp_path_factory.mktemp("horovod")
    return launched(HOROVODRUN, 2, out, "launcher=horovod", *LED, python=python), out


@pytest.fixture(scope="module")
def by_torchrun(python: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    out = tmp_path_factory.mktemp("torchrun")
    return launched(TORCHRUN, 2, out, "launcher=torchrun", *LED, python=python), out


@pytest.mark.parametrize("name", ["horovod", "torchrun"])
def test_two_processes_train_what_one_does(name: str, whole: Path, request: pytest.FixtureRequest) -> None:
    output, out = request.getfixturevalue(f"by_{name}")

    assert f"digits: {name}, world of 2; CPU; fp32" in output
    assert_close(weights(whole), weights(out))
    for rank in ("0", "1"):  # each has a file of its own, with the loss of both
        lines = read_metrics(out, rank)
        assert (lines[0]["rank"], lines[0]["world"]) == (int(rank), 2)
        assert [line["loss"] for line in lines if "loss" in line] == pytest.approx(
            [line["loss"] for line in read_metrics(whole) if "loss" in line], rel=1e-3
        )


def test_two_processes_of_horovod_go_on_exactly(by_horovod: tuple[str, Path], python: Path, tmp_path: Path) -> None:
    """
    As if they had been lost after their last checkpoint but one.
    """
    _, out = by_horovod
    shutil.copytree(out / "checkpoints", tmp_path / "checkpoints")
    shutil.rmtree(tmp_path / "checkpoints" / "step-0000000012")
    done = launched(HOROVODRUN, 2, tmp_path, "launcher=horovod", *LED, python=python)

    assert "resumes after step 10" in done
    assert_same(weights(out), weights(tmp_path))


def test_compression_is_a_choice(whole: Path, python: Path, tmp_path: Path) -> None:
    launched(HOROVODRUN, 2, tmp_path, "compression=fp16", python=python)
    with pytest.raises(AssertionError):
        assert_same(weights(whole), weights(tmp_path))
    first, *_ = (line["loss"] for line in read_metrics(tmp_path) if "loss" in line)
    last = [line["loss"] for line in read_metrics(tmp_path) if "loss" in line][-1]
    assert last < first


@pytest.mark.parametrize(
    ("launcher", "meant", "says"),
    [
        (TORCHRUN, "horovod", "launcher: the run was started by torchrun, with 2 processes; a start by horovod."),
        (HOROVODRUN, "torchrun", "launcher: the run was started by horovod, with 2 processes; a start by torchrun."),
    ],
    ids=["torchrun", "horovodrun"],
)
def test_the_wrong_launcher_is_refused(
    launcher: tuple[str, ...], meant: str, says: str, python: Path, tmp_path: Path
) -> None:
    done = launched(launcher, 2, tmp_path, f"launcher={meant}", status=None, python=python)
    assert says in sentences(done)
    assert not (tmp_path / "metrics.jsonl").exists()


def test_a_batch_that_two_cannot_share_is_refused(python: Path, tmp_path: Path) -> None:
    done = launched(HOROVODRUN, 2, tmp_path, "global_batch=25", status=1, python=python)
    assert (
        "global_batch: a batch of 25 cannot be divided by 2; equal parts for 2 processes. Write 24 or 26"
        in sentences(done)
    )
    assert not (tmp_path / "metrics.jsonl").exists()
