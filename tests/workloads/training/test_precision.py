"""What to compute with is the catalogue's to say; what a device is not made for is refused."""

from pathlib import Path

import pytest
import torch

from tests.support.training_runs import alone, config
from workloads.catalogue.accelerators import CPU, architecture_of
from workloads.errors import UserError
from workloads.training import data
from workloads.training.loop import Training, TrainingInputs
from workloads.training.precision import Precision, Scaler, choose

V100, A100, T4 = "7.0", "8.0", "7.5"


GPUS = [(A100, "bf16"), ("9.0", "bf16"), (V100, "fp16"), (T4, "fp16"), ("gfx942", "bf16"), ("gaudi2", "bf16")]


@pytest.mark.parametrize(("target", "name"), GPUS)
def test_a_gpu_computes_with_what_it_is_made_for(target: str, name: str) -> None:
    assert choose("auto", architecture_of(target), "a GPU").name == name


@pytest.mark.parametrize("asked", ["auto", "fp32"])
def test_what_the_catalogue_does_not_know_computes_with_fp32(asked: str) -> None:
    assert architecture_of("99.9") is None
    assert choose(asked, None, "a new GPU").name == "fp32"


def test_a_cpu_computes_with_fp32_and_with_bf16_on_request() -> None:
    assert choose("auto", CPU, "CPU").name == "fp32"
    assert choose("bf16", CPU, "CPU").name == "bf16"


@pytest.mark.parametrize(
    ("asked", "target", "expected"),
    [
        ("bf16", V100, "precision: V100 (Volta) does not support bf16; auto, or one of fp16, fp32. "
                       "Write auto or fp16."),
        ("fp16", None, "precision: it is unknown whether V100 supports fp16; auto or fp32. "
                       "Write auto or fp32, or add the device to the catalogue."),
    ],
)  # fmt: skip
def test_what_a_device_is_not_made_for_is_refused(asked: str, target: str | None, expected: str) -> None:
    with pytest.raises(UserError) as refused:
        choose(asked, architecture_of(target) if target else None, "V100")
    assert str(refused.value) == expected


def test_fp16_on_a_cpu_is_refused() -> None:
    with pytest.raises(UserError, match="CPU"):
        choose("fp16", CPU, "CPU")


def test_a_gradient_that_overflows_costs_a_step_and_halves_the_scale() -> None:
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    scaler = Scaler(Precision("fp16", "given"), "cpu")
    scale = scaler.scale(torch.ones(())).item()

    scaler.scale(weight * float("inf")).backward()
    assert not scaler.step(optimizer)
    assert weight.item() == 1
    assert scaler.scale(torch.ones(())).item() == scale / 2

    optimizer.zero_grad()
    scaler.scale(weight * 1.0).sum().backward()
    assert scaler.step(optimizer)
    assert weight.item() == pytest.approx(0.9)


def test_the_scale_outlives_a_restart() -> None:
    scaler, later = (Scaler(Precision("fp16", "given"), "cpu") for _ in range(2))
    weight = torch.nn.Parameter(torch.ones(1))
    scaler.scale(weight * float("inf")).backward()
    scaler.step(torch.optim.SGD([weight], lr=0.1))

    later.load_state_dict(scaler.state_dict())

    assert later.scale(torch.ones(())).item() == scaler.scale(torch.ones(())).item()


@pytest.mark.parametrize(("name", "dtype"), [("bf16", torch.bfloat16), ("fp32", torch.float32)])
def test_a_forward_pass_is_in_the_precision(name: str, dtype: torch.dtype) -> None:
    with Precision(name, "given").forward_context("cpu", sharded=False):  # type: ignore[arg-type]
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


@pytest.mark.parametrize(("compressed", "least"), [(True, 2e-9), (False, 0.0)])
def test_small_gradients_survive_their_exchange_in_fp16(compressed: bool, least: float) -> None:
    """
    2e-9 is below the smallest number of fp16, and only a scaled loss brings it through.
    """
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    scaler = Scaler(Precision("fp32", "given"), "cpu", compressed)
    scaler.scale((weight * 2e-9).sum()).backward()
    assert weight.grad is not None
    weight.grad.copy_(weight.grad.half())  # as Horovod's and PyTorch's compression do it
    if compressed:
        scaler.unscale(optimizer)
    assert weight.grad.item() == pytest.approx(least, rel=1e-2)


def test_the_scaler_of_a_run_follows_its_compression(tmp_path: Path) -> None:
    for value in ("none", "fp16"):
        run = config("digits", f"compression={value}")
        training = Training(run, TrainingInputs(data.load(run.data)), alone(tmp_path))
        assert training.scaler.is_enabled == (value == "fp16")
