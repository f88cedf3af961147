"""Tensor and expert parallelism: the weights of one process, parts as the estimate says, and exact when they go on."""

import json
import shutil
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.support import parallel_meshes
from tests.support.torchrun_ranks import run_ranks, train_by_ranks
from tests.support.training_runs import (
    assert_close,
    assert_same,
    config,
    weights,
)
from workloads.checkpoint import CheckpointDamaged, Checkpoints, newest
from workloads.errors import UserError
from workloads.training import fit, memory, parallel, sharded
from workloads.training.launch_check import check_launch
from workloads.training.models import build_shapes
from workloads.training.run import train

TINY = ("steps=4", "global_batch=4", "report_every_steps=1", "saving.every_steps=2", "data.sequence_length=32")
MESHES = {
    2: (
        "llama sharding=full tensor_parallel=2",
        "deepseek-v3-tiny sharding=full expert_parallel=2",
    ),
    4: (
        "qwen3 sharding=full tensor_parallel=2",
        "qwen3-moe sharding=full tensor_parallel=2 expert_parallel=2",
        "qwen3-moe sharding=hybrid tensor_parallel=2 expert_parallel=2",
        "deepseek-v3-tiny sharding=full expert_parallel=2 accumulate=2 recompute_activations=true",
        "deepseek-v3-tiny sharding=full tensor_parallel=2 expert_parallel=4 model.mtp={}",
    ),
}


@pytest.mark.parametrize("processes", [2, 4])
def test_each_mesh_trains_what_one_process_does(processes: int, tmp_path: Path) -> None:
    parallel_meshes.make_models(tmp_path)
    output = run_ranks(processes, parallel_meshes.main, tmp_path, *MESHES[processes])
    found = [json.loads(line) for line in output.splitlines() if line.startswith("{")]

    assert [each["case"] for each in found] == [*MESHES[processes]], output
    for each in found:
        assert each["difference"] < 1e-6, each
        assert each["held"] == pytest.approx(each["estimate"], rel=0.02), each


def test_a_mesh_goes_on_to_the_last_bit_and_another_number_of_processes_reads_its_checkpoint(tmp_path: Path) -> None:
    mesh = ("sharding=full", "tensor_parallel=2", "expert_parallel=2", *TINY)
    train(config("deepseek-v3-tiny", *TINY), tmp_path / "one", {})
    train_by_ranks(2, tmp_path / "mesh", "deepseek-v3-tiny", *mesh)
    for name in ("again", "alone"):
        shutil.copytree(tmp_path / "mesh" / "checkpoints", tmp_path / name / "checkpoints")
        shutil.rmtree(tmp_path / name / "checkpoints" / "step-0000000004")  # as if it had been lost before
    said = train_by_ranks(2, tmp_path / "again", "deepseek-v3-tiny", *mesh)
    train(config("deepseek-v3-tiny", *TINY), tmp_path / "alone", {})

    assert "among 2 processes (tensor_parallel 2, expert_parallel 2)" in said
    assert "resumes after step 2" in said
    assert_same(merged(tmp_path / "mesh"), merged(tmp_path / "again"))
    assert_close(weights(tmp_path / "one"), merged(tmp_path / "mesh"))
    assert_close(weights(tmp_path / "one"), weights(tmp_path / "alone"))


def merged(out: Path) -> dict[str, torch.Tensor]:
    found = newest(out / "checkpoints")
    assert found
    whole: dict[str, torch.Tensor] = sharded.load_whole(found)["model"]
    return whole


def test_parts_of_several_ranges_make_the_whole_tensor(tmp_path: Path) -> None:
    """
    Two processes have each half of both matrices of a packed weight, whose rows another two divide.
    """
    whole = torch.arange(2 * 8 * 3).reshape(2, 8, 3)
    held = [[[[row, row + 1]], [[part, part + 2], [part + 4, part + 6]], [[0, 3]]] for row in (0, 1) for part in (0, 2)]
    parts = [sharded.take(whole, each) for each in held]
    assert torch.equal(parts[1], torch.cat([whole[:1, 2:4], whole[:1, 6:8]], 1))
    rows = [sharded.rows(whole.shape, rank, 3) for rank in range(3)]  # the last one is empty
    saved = saved_tensor(tmp_path / "blocks", parts, held)
    assert torch.equal(saved.read(), whole)
    for own in (*held, *rows):
        assert torch.equal(saved.read(own), sharded.take(whole, own))
    by_rows = saved_tensor(tmp_path / "rows", [sharded.take(whole, each) for each in rows], rows)
    for own in (*held, *rows, [[[0, 2]], [[1, 2], [3, 4], [6, 8]], [[1, 3]]]):
        assert torch.equal(by_rows.read(own), sharded.take(whole, own))


def saved_tensor(directory: Path, parts: list[torch.Tensor], held: list[sharded.Held]) -> sharded.SavedTensor:
    """Return the tensor of *parts* after a checkpoint of as many processes."""
    with ExitStack() as stack:
        for rank in reversed(range(len(parts))):  # rank 0 commits when all parts are there
            files = stack.enter_context(Checkpoints(directory, rank=rank, world=len(parts), run="x"))
            files.save(1, {"model": {"w": parts[rank]}, "distributed": ["w"], "held": {"w": held[rank]}})
    found = newest(directory)
    assert found
    return sharded.SavedState(found).weights()["w"]


def test_a_part_that_no_process_has_saved_is_damage(tmp_path: Path) -> None:
    whole = torch.arange(12.0).reshape(4, 3)
    held = [sharded.rows(whole.shape, rank, 2) for rank in (0, 1)]
    saved = saved_tensor(tmp_path, [sharded.take(whole, each) for each in held], held)
    with pytest.raises(CheckpointDamaged, match="its parts have 6 of 12 numbers"):
        replace(saved, held=[held[0], held[0]]).read(sharded.whole_ranges((4, 3)))


def test_the_estimate_divides_layers_and_experts() -> None:
    run = config("deepseek-v3-tiny", "sharding=full")
    mesh = config("deepseek-v3-tiny", "sharding=full", "tensor_parallel=2", "expert_parallel=4")
    plain, parallel_layers = (memory.estimate(each, build_shapes(each.model), 4, 4) for each in (run, mesh))
    assert plain.parameters == parallel_layers.parameters
    assert parallel_layers.blocks < plain.blocks / 2
    assert "among 4 processes (tensor_parallel 2, expert_parallel 4)" in str(parallel_layers)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (("tensor_parallel=2",), "tensor_parallel divide a model together with FSDP; write sharding: full, or hybrid"),
        (("sharding=full", "tensor_parallel=2", "expert_parallel=3"), "3, which is no multiple of tensor_parallel 2"),
        (("sharding=full", "expert_parallel=2", "compile=true"), "compile does not know the exchanges"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(changes: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        config("deepseek-v3-tiny", *changes)


def test_a_model_that_cannot_be_divided_is_refused() -> None:
    run = config("deepseek-v3-tiny", "sharding=full", "tensor_parallel=3", "expert_parallel=3")
    with pytest.raises(UserError) as refused:
        parallel.check(run, build_shapes(run.model))
    tensor, expert = refused.value.diagnostics
    assert tensor.problem.startswith("3 parts do not divide ")
    assert expert.problem == "3 parts do not divide 8 experts"


def test_processes_that_form_no_groups_are_refused() -> None:
    run = config("deepseek-v3-tiny", "sharding=full", "tensor_parallel=4", "global_batch=6")
    with pytest.raises(UserError, match="tensor_parallel: 6 processes share a copy of the model, in groups of 4; a"):
        check_launch(run, {"WORLD_SIZE": "6", "RANK": "0"})
    two = config("deepseek-v3-tiny", "sharding=full", "tensor_parallel=2", "global_batch=3")
    with pytest.raises(UserError, match="a batch of 3 cannot be divided by 2; equal parts for 2 groups of 2 processes"):
        check_launch(two, {"WORLD_SIZE": "4", "RANK": "0"})


def test_the_layouts_that_fit_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    wide = ("--set", "model.moe_intermediate_size=1400000")
    assert fit.main(["deepseek-v3-tiny", "--gpu", "h100-sxm", "--gpus", "4", *wide]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "1 x 4 h100-sxm, 80 GB each; bf16 (Hopper supports it)"
    assert lines[1].startswith("tensor_parallel 1 and expert_parallel 2: 9,")
    assert not any(line.startswith("tensor_parallel 1 and expert_parallel 1:") for line in lines)
    assert fit.main(["deepseek-v3-tiny", "--gpu", "h100-sxm", "--gpus", "1", *wide]) == 1
    assert "at most 80 GB on each GPU" in capsys.readouterr().err
    assert fit.main(["digits", "--gpu", "h101"]) == 2
