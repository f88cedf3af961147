"""The arithmetic of memory is what a model then really takes; what finds no room is refused before it is built."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.support.training_runs import alone, assert_same, config, weights
from workloads.errors import UserError
from workloads.training import data, memory
from workloads.training.device import select_device
from workloads.training.loop import Training, TrainingInputs
from workloads.training.models import build_shapes
from workloads.training.precision import Precision
from workloads.training.run import train


def held(tensors: list[torch.Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


@pytest.mark.parametrize("recipe", ["digits", "deepseek-v3-tiny"])
@pytest.mark.parametrize("kind", ["adamw", "sgd"])
def test_it_is_what_is_really_held(recipe: str, kind: str, tmp_path: Path) -> None:
    run = config(recipe, f"optimizer.kind={kind}")
    estimate = memory.estimate(run, build_shapes(run.model))
    training = Training(run, TrainingInputs(data.load(run.data)), alone(tmp_path))

    moments = [value for state in training.optimizer.state.values() for name, value in state.items() if name != "step"]
    assert estimate.weights == held([*training.model.parameters(), *training.model.buffers()])
    assert estimate.gradients == held(list(training.model.parameters()))
    assert estimate.optimizer == held(moments)


def test_activations_are_what_a_backward_pass_is_given(tmp_path: Path) -> None:
    run = config("digits", "global_batch=32", "accumulate=2")
    training = Training(run, TrainingInputs(data.load(run.data)), alone(tmp_path))
    kept: dict[int, int] = {weight.untyped_storage()._cdata: 0 for weight in training.model.parameters()}
    everything = []  # as long as it is there, nothing else is where it was

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        everything.append(tensor)
        kept.setdefault(tensor.untyped_storage()._cdata, tensor.untyped_storage().nbytes())
        return tensor

    x, y = training.examples.take(torch.arange(8))  # of 2 processes, in 2 parts
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        torch.nn.functional.cross_entropy(training.model(x), y)
    estimate = memory.estimate(run, build_shapes(run.model), processes=2)
    assert estimate.activations == sum(kept.values())
    half = memory.estimate(run, build_shapes(run.model), processes=2, precision=Precision("bf16", "given")).activations
    assert half is not None and estimate.activations / 2 < half < estimate.activations


def test_what_a_mixture_of_experts_keeps_is_not_known_before() -> None:
    run = config("deepseek-v3-tiny")
    needed = memory.estimate(run, build_shapes(run.model))
    assert needed.activations is None
    assert str(needed).endswith(", and activations")


def test_the_real_deepseek_has_its_671_billion_and_is_refused() -> None:
    run = config("deepseek-v3")
    needed = memory.estimate(run, build_shapes(run.model))
    with pytest.raises(UserError) as refused:
        memory.check_memory(run, needed, replace(select_device("cpu", 0, 1), name="H100", memory=80 * 10**9))
    assert round(needed.parameters / 1e9) == 671
    assert "= 10.7 TB, and activations; at most 80 GB, which H100 has for this process" in str(refused.value)


def test_a_model_that_fits_without_moments_is_reported() -> None:
    run = config("digits")
    needed = memory.estimate(run, build_shapes(run.model))
    with pytest.raises(
        UserError, match=r"Use a smaller model or optimizer sgd or sharding full over 2 processes or more\."
    ):
        memory.check_memory(run, needed, replace(select_device("cpu", 0, 1), memory=needed.total - 1))
    memory.check_memory(run, needed, replace(select_device("cpu", 0, 1), memory=needed.total))


def test_activations_that_are_computed_again_change_no_weight(tmp_path: Path) -> None:
    tiny = ("steps=2", "global_batch=2", "data.sequence_length=32", "data.bytes_at_most=5000", "saving.every_steps=2")
    for name in ("false", "true"):
        train(config("deepseek-v3-tiny", *tiny, f"recompute_activations={name}"), tmp_path / name, {})
    assert_same(weights(tmp_path / "false"), weights(tmp_path / "true"))


def test_a_host_without_memory_for_checkpoints_is_refused() -> None:
    run = config("digits")
    needed = memory.estimate(run, build_shapes(run.model))
    gpu = replace(select_device("cpu", 0, 1), kind="cuda", name="H100", memory=80 * 10**9, host_memory=needed.host - 1)
    with pytest.raises(UserError, match=r"of host memory for checkpoints and initial weights; at most "):
        memory.check_memory(run, needed, gpu)
    memory.check_memory(run, needed, replace(gpu, host_memory=needed.host))
