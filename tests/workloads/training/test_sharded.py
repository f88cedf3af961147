"""Two processes that share one copy of a model: the weights of one, half the memory, and exact when they go on."""

import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.torchrun_ranks import train_by_ranks
from tests.support.training_runs import (
    assert_close,
    assert_same,
    config,
    weights,
)
from workloads.checkpoint import Checkpoint, CheckpointRequestError, Checkpoints, load, newest
from workloads.errors import UserError
from workloads.training import memory, sharded
from workloads.training.launch_check import check_launch
from workloads.training.models import build_shapes
from workloads.training.run import train

TINY = ("steps=4", "global_batch=4", "report_every_steps=1", "saving.every_steps=2", "data.sequence_length=32")


def together(out: Path) -> Mapping[str, torch.Tensor]:
    found = newest(out / "checkpoints")
    assert found and found.manifest.world == 2
    whole: Mapping[str, torch.Tensor] = sharded.load_whole(found)["model"]
    return whole


def test_two_train_what_one_does_with_half_of_it_each(tmp_path: Path) -> None:
    given = ("sharding=full", "accumulate=2", *TINY)
    train(config("deepseek-v3-tiny", *TINY), tmp_path / "one", {})
    done = train_by_ranks(2, tmp_path / "two", "deepseek-v3-tiny", *given)
    shutil.copytree(tmp_path / "two" / "checkpoints", tmp_path / "parts" / "checkpoints")
    shutil.rmtree(tmp_path / "parts" / "checkpoints" / "step-0000000004")  # as if they had been lost before
    assert "resumes after step 2" in train_by_ranks(2, tmp_path / "parts", "deepseek-v3-tiny", *given)

    assert "parameters among 2 processes" in done
    assert_close(weights(tmp_path / "one"), together(tmp_path / "two"))
    assert_same(together(tmp_path / "two"), together(tmp_path / "parts"))
    found = newest(tmp_path / "two" / "checkpoints")
    assert found
    held = [sum(tensor.numel() for tensor in load(found, rank, 2)["model"].values()) for rank in (0, 1)]
    assert max(held) < 0.55 * sum(held)
    with pytest.raises(CheckpointRequestError, match="the checkpoint is in 2 shards"):
        load(found)


def test_each_holds_its_part() -> None:
    run = config("deepseek-v3-tiny")
    one, four = (memory.estimate(run, build_shapes(run.model), shards) for shards in (1, 4))
    assert (four.gradients, four.optimizer) == (one.gradients / 4, one.optimizer / 4)
    assert one.gathered == one.blocks == 0
    assert 0 < four.gathered < one.weights
    assert f"gathered weights and gradients {memory.format_bytes(four.gathered + four.blocks)}" in str(four)


def test_a_checkpoint_is_divided_among_another_number_of_processes(tmp_path: Path) -> None:
    """
    One process has saved, then three have; two read their parts, and one reads all.
    """
    train(config("digits"), tmp_path / "one", {})
    saved = newest(tmp_path / "one" / "checkpoints")
    assert saved
    whole, names = load(saved), list(load(saved)["model"])

    def rows(rank: int, world: int) -> dict[str, sharded.Held]:
        return {name: sharded.rows(tensor.shape, rank, world) for name, tensor in whole["model"].items()}

    def part(checkpoint: Checkpoint, held: Mapping[str, sharded.Held]) -> dict[str, Any]:
        """Return the part *held* of the weights and moments, and the other values."""
        state = sharded.SavedState(checkpoint)
        moments = {
            index: {key: each.read(held.get(names[index]) if each.shape else None) for key, each in saved.items()}
            for index, saved in state.moments(names).items()
        }
        model = {name: each.read(held.get(name)) for name, each in state.weights().items()}
        values = {key: state.read(key) for key in ("step", "config", "scaler", "tuning")}
        return {**values, "model": model, "optimizer": {"state": moments}}

    with ExitStack() as stack:
        for rank in (2, 1, 0):  # rank 0 commits when all parts are there
            files = Checkpoints(tmp_path / "three", rank=rank, world=3, run="x")
            stack.enter_context(files).save(12, {**part(saved, rows(rank, 3)), "distributed": names})
    three = newest(tmp_path / "three")
    assert three and three.manifest.world == 3

    halves = [part(three, rows(rank, 2)) for rank in (0, 1)]
    again = part(three, {})
    for state in (again, *halves):
        assert state["step"] == 12
    assert_same(again["model"], whole["model"])
    assert_same(whole["model"], {name: torch.cat([half["model"][name] for half in halves]) for name in names})
    for index, moments in whole["optimizer"]["state"].items():
        assert_same(again["optimizer"]["state"][index], moments)
        both = [half["optimizer"]["state"][index]["exp_avg"] for half in halves]
        assert torch.equal(torch.cat(both), moments["exp_avg"])


def test_hosts_with_a_copy_each_train_what_one_process_does(tmp_path: Path) -> None:
    """
    Two hosts of two processes: the first copy is saved, and a resumed run gives it to the second host.
    """
    given = ("sharding=hybrid", *TINY)
    train(config("deepseek-v3-tiny", *TINY), tmp_path / "one", {})
    output = train_by_ranks(2, tmp_path / "four", "deepseek-v3-tiny", *given, hosts=2)
    assert "torchrun, world of 4" in output
    assert "parameters among 2 processes" in output
    assert_close(weights(tmp_path / "one"), together(tmp_path / "four"))

    shutil.copytree(tmp_path / "four" / "checkpoints", tmp_path / "parts" / "checkpoints")
    shutil.rmtree(tmp_path / "parts" / "checkpoints" / "step-0000000004")
    output = train_by_ranks(2, tmp_path / "parts", "deepseek-v3-tiny", *given, hosts=2)
    assert "resumes after step 2" in output
    assert_same(together(tmp_path / "four"), together(tmp_path / "parts"))


def test_hosts_with_other_numbers_of_processes_share_no_copies() -> None:
    run = config("digits", "sharding=hybrid", "global_batch=96")
    place = {"WORLD_SIZE": "3", "RANK": "0", "LOCAL_WORLD_SIZE": "2"}
    with pytest.raises(UserError, match="sharding: 3 processes were started, and this host has 2 of them; the same"):
        check_launch(run, place)


def test_it_is_torchruns(tmp_path: Path) -> None:
    message = (
        r"sharding: the run was started by hand; a start by torchrun; only processes of torchrun can share a model\."
    )
    with pytest.raises(UserError, match=message):
        train(config("digits", "sharding=full"), tmp_path, {})
