"""The arithmetic of memory is what a model then really takes; what finds no room is refused before it is built."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.workloads.training.runs import alone, config
from workloads.common.errors import WorkloadError
from workloads.training import data, memory
from workloads.training.device import pick
from workloads.training.loop import Training


def held(tensors: list[torch.Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


@pytest.mark.parametrize("recipe", ["digits", "deepseek-v3-tiny"])
@pytest.mark.parametrize("kind", ["adamw", "sgd"])
def test_it_is_what_is_really_held(recipe: str, kind: str, tmp_path: Path) -> None:
    run = config(recipe, f"optimizer.kind={kind}")
    told = memory.arithmetic(run)
    training = Training(run, data.load(run.data), alone(tmp_path))

    moments = [value for state in training.optimizer.state.values() for name, value in state.items() if name != "step"]
    assert told.weights == held([*training.model.parameters(), *training.model.buffers()])
    assert told.gradients == held(list(training.model.parameters()))
    assert told.optimizer == held(moments)


def test_the_real_deepseek_has_its_671_billion_and_is_refused() -> None:
    run = config("deepseek-v3")
    needed = memory.arithmetic(run)
    with pytest.raises(WorkloadError) as refused:
        memory.refuse_too_large(run, needed, replace(pick("cpu", 0, 1), name="H100", memory=80 * 10**9))
    assert round(needed.parameters / 1e9) == 671
    assert "= 10.7 TB, and activations; H100 has 80 GB for this process" in str(refused.value)


def test_a_model_that_fits_without_moments_is_told_so() -> None:
    run = config("digits")
    needed = memory.arithmetic(run)
    with pytest.raises(WorkloadError, match=r"Take a smaller model, or optimizer sgd;"):
        memory.refuse_too_large(run, needed, replace(pick("cpu", 0, 1), memory=needed.total - 1))
    memory.refuse_too_large(run, needed, replace(pick("cpu", 0, 1), memory=needed.total))
