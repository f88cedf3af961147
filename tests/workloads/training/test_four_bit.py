"""Adapters beside a base of 4 bits: they learn, the base takes an eighth of its bytes, and the rest stays as it is."""

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.support.compare_runs import largest_difference
from tests.support.sharded_memory import make_model
from tests.support.torchrun_ranks import train_by_ranks
from tests.support.training_runs import (
    BIN,
    ROOT,
    alone,
    assert_close,
    assert_same,
    config,
    environment,
    read_metrics,
    weights,
)
from workloads.catalogue.models import model_config
from workloads.errors import UserError
from workloads.training import data, four_bit, memory
from workloads.training.config import HuggingFace, Lora
from workloads.training.device import select_device
from workloads.training.four_bit import FourBitLinear
from workloads.training.initial_weights import build
from workloads.training.loop import Training, TrainingInputs
from workloads.training.models import build_shapes, frozen_outside_blocks, trainable_state
from workloads.training.precision import FP32, Precision
from workloads.training.run import train

LAYERS = 7
"""Linear layers in a block of the base."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("base")
    make_model(directory, layers=2)
    return directory


def changes(base: Path, four_bit: bool = True, **more: Any) -> list[str]:
    model = {"kind": "hugging-face", "path": str(base), "lora": {"rank": 4, "four_bit": four_bit}}
    text = {"kind": "text", "path": str(base / "text.txt"), "sequence_length": 32}
    return [
        f"model={json.dumps(model)}", f"data={json.dumps(text)}", "steps=8", "global_batch=8", "accumulate=1",
        "optimizer.learning_rate=0.02", "schedule.kind=constant", "report_every_steps=1", "saving.every_steps=4",
        "device=cpu", *(f"{name}={value}" for name, value in more.items()),
    ]  # fmt: skip


def test_its_weights_are_the_rounded_ones_of_the_layer() -> None:
    """
    The values of NF4 for a normal distribution are 0.1 to 0.3 of a standard deviation apart, near its middle.
    """
    torch.manual_seed(0)
    plain = nn.Linear(128, 64)
    nn.init.normal_(plain.weight, std=0.02)
    layer = FourBitLinear(plain)
    layer.quantize(plain.weight.detach())
    error = (layer.dequantize() - plain.weight).detach()
    assert 0 < error.std() < 0.1 * 0.02
    x = torch.randn(3, 5, 128, requires_grad=True)
    expected = nn.functional.linear(x, layer.dequantize(), plain.bias)
    torch.testing.assert_close(layer(x), expected)
    [gradient] = torch.autograd.grad(layer(x).sum(), x)
    torch.testing.assert_close(gradient, layer.dequantize().sum(0).expand_as(x))
    with torch.autocast("cpu", torch.bfloat16):
        half = layer(x)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), expected, rtol=0.02, atol=0.02)


def test_a_layer_that_the_library_rounds_wrongly_stays_as_it_is() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.even, self.odd, self.head = nn.Linear(128, 8), nn.Linear(96, 8), nn.Linear(64, 8)

        def get_output_embeddings(self) -> nn.Module:
            return self.head

    model = Model()
    four_bit.convert(model)
    assert list(four_bit.layers(model)) == ["even"]


def test_the_head_and_the_norms_keep_their_numbers(base: Path) -> None:
    model: Any = build(HuggingFace(path=str(base), lora=Lora(rank=4, four_bit=True)))
    assert len(four_bit.layers(model)) == 2 * LAYERS
    assert type(model.model.lm_head) is nn.Linear
    plain: Any = build(HuggingFace(path=str(base)))
    for name, layer in four_bit.layers(model.model).items():
        original = plain.model.get_submodule(name.removesuffix(".layer")).weight
        assert torch.corrcoef(torch.stack([layer.dequantize().flatten(), original.flatten()]))[0, 1] > 0.99, name


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_it_learns_almost_as_beside_the_whole_base(precision: str, base: Path, tmp_path: Path) -> None:
    losses = {}
    for packed in (True, False):
        train(config("lora", *changes(base, packed, precision=precision)), tmp_path / str(packed), {})
        losses[packed] = [line["loss"] for line in read_metrics(tmp_path / str(packed)) if "loss" in line]
    assert losses[True][-1] < losses[True][0] - 0.1
    assert losses[True][-1] == pytest.approx(losses[False][-1], rel=0.02)
    assert set(weights(tmp_path / "True")) == set(weights(tmp_path / "False")), "adapters alone"


def test_a_stop_changes_nothing(base: Path, tmp_path: Path) -> None:
    train(config("lora", *changes(base)), tmp_path / "whole", {})
    train(config("lora", *changes(base)), tmp_path / "parts", {}, stop_at=3)
    train(config("lora", *changes(base)), tmp_path / "parts", {})
    assert_same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))


def test_two_processes_learn_what_one_does(base: Path, tmp_path: Path) -> None:
    train(config("lora", *changes(base)), tmp_path / "one", {})
    train_by_ranks(2, tmp_path / "two", "lora", *changes(base))
    assert_close(weights(tmp_path / "one"), weights(tmp_path / "two"))


@pytest.mark.parametrize("more", [{}, {"precision": "bf16", "recompute_activations": "true"}])
def test_two_processes_that_divide_the_base_learn_what_one_does(
    base: Path, tmp_path: Path, more: dict[str, str]
) -> None:
    train(config("lora", *changes(base, **more)), tmp_path / "one", {})
    train_by_ranks(2, tmp_path / "two", "lora", *changes(base, sharding="full", **more))
    if not more:  # bf16 rounds otherwise where weights themselves are cast, and AdamW makes steps of that
        assert largest_difference(tmp_path / "one", tmp_path / "two") < 1e-3
    losses = [[line["loss"] for line in read_metrics(tmp_path / name) if "loss" in line][-1] for name in ("one", "two")]
    assert losses[1] == pytest.approx(losses[0], rel=0.01)


def test_a_divided_layer_has_the_values_and_gradients_of_a_whole_one() -> None:
    argv = [str(BIN / "torchrun"), "--nproc-per-node", "2", "-m", "tests.support.divided_layers"]
    done = subprocess.run(argv, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    ranks = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    assert len(ranks) == 2
    for found in [each for rank in ranks for each in rank]:
        assert found["weights"] == 0
        assert max(found["output"], found["gradient"]) < 1e-4
        assert 0.5 <= found["part"] < 0.501


def test_processes_that_divide_the_base_need_less_memory(base: Path) -> None:
    run = config("lora", *changes(base, sharding="full"))
    shapes = build_shapes(run.model)
    one, two = (memory.estimate(run, shapes, count, count, sharded=True) for count in (1, 2))
    layers = [layer.get_buffer(name) for layer in four_bit.layers(shapes).values() for name in four_bit.DIVIDED]
    other = sum(buffer.nbytes for buffer in shapes.buffers()) - sum(buffer.nbytes for buffer in layers)
    assert abs(two.weights - other - (one.weights - other) / 2) < 2 * LAYERS * 2 + 4 * 512
    plain = [weight.numel() for weight in shapes.parameters()]
    assert two.gathered + two.blocks < 4 * sum(plain) * 2 + 4 * two.trainable * 3, "weights of 4 bits are not gathered"
    assert two.dequantized > 4 * 128 * 512, "and of the largest layer the 4 bits as well"


def half_precision() -> Precision:
    return Precision("bf16", "a test")


def llama_70b(directory: Path, tokens: int) -> Any:
    """Return a run that trains adapters of a Llama of 70 billion parameters on two GPUs."""
    make_model(directory, layers=1)
    settings = model_config("llama-3.1-70b")
    (directory / "config.json").write_text(json.dumps(settings))
    given = changes(directory, sharding="full", precision="bf16", recompute_activations="true", chunked_loss="true")
    return config("lora", *given, "global_batch=2", f"data.sequence_length={tokens}")


def test_70_billion_parameters_fit_two_gpus_of_24_gb_on_paper(tmp_path: Path) -> None:
    """One is too small, and the refusal says how many are enough."""
    gpu = replace(select_device("cpu", 0, 1), name="a GPU of 24 GB", memory=24 << 30)
    half = half_precision()
    totals = []
    for tokens in (512, 1024):
        run = llama_70b(tmp_path, tokens)
        shapes = build_shapes(run.model)
        needed = memory.estimate(run, shapes, 2, 2, half, sharded=True)
        memory.check_memory(run, needed, gpu)
        totals.append(needed.total / 1e9)
    assert 24.5 < totals[0] < 24.7 < totals[1] < 25.1
    alone = memory.estimate(run, shapes, 1, 1, half, sharded=True)
    with pytest.raises(UserError, match=r"the training needs too much memory.* or sharding full over 2 processes"):
        memory.check_memory(run, alone, gpu)


def test_a_frozen_head_and_embedding_have_the_format_of_the_computation_and_trained_ones_do_not(base: Path) -> None:
    run = config("lora", *changes(base, sharding="full"))
    shapes = build_shapes(run.model)
    outside = 2 * 256 * 128 + 128
    single, half = (
        memory.estimate(run, shapes, 2, 2, precision, sharded=True) for precision in (FP32, half_precision())
    )
    assert single.weights - half.weights == outside // 2 * 2
    assert half.gathered == (256 * 128 + 128) * 2, "the embedding is freed before the first block"
    assert half.embedding == 256 * 128 * 2
    with_head = config("lora", *changes(base, sharding="full"), 'model.lora.layers=["q_proj", "lm_head"]')
    trained = build_shapes(with_head.model)
    assert not frozen_outside_blocks(trained)
    assert memory.estimate(with_head, trained, 2, 2, half_precision(), sharded=True).embedding == 0


def test_memory_is_what_is_really_held(base: Path, tmp_path: Path) -> None:
    run = config("lora", *changes(base))
    estimated = memory.estimate(run, build_shapes(run.model))
    training = Training(run, TrainingInputs(data.load(run.data)), alone(tmp_path))
    tensors = [*training.model.parameters(), *training.model.buffers()]
    assert estimated.weights == sum(tensor.nbytes for tensor in tensors)
    assert estimated.trainable == sum(tensor.numel() for tensor in trainable_state(training.model).values())
    whole = config("lora", *changes(base, False))
    other = memory.estimate(whole, build_shapes(whole.model))
    assert estimated.parameters == other.parameters
    packed = sum(layer.weights for layer in four_bit.layers(training.model).values())
    assert 4 * packed - (other.weights - estimated.weights) < 0.57 * packed + 2 * LAYERS * 1200
    assert estimated.dequantized == 4 * 128 * 512, "the largest layer"
    assert estimated.activations is not None


def refused(base: Path, *more: str) -> str:
    with pytest.raises(UserError) as error:
        train(config("lora", *changes(base), *more), base / "refused", {})
    return str(error.value)


def test_what_cannot_be_is_refused(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(four_bit, "find_spec", lambda name: None)
    assert refused(base) == (
        "model.lora.four_bit: the library bitsandbytes is not installed; bitsandbytes beside PyTorch. "
        "Install it, or write four_bit: false."
    )
    run = config("lora", *changes(base))
    with pytest.raises(UserError, match="weights of 4 bits were not tried on a device of kind gaudi"):
        four_bit.check(run, "gaudi")
