"""Settings that save time and memory change no result, and their defaults follow from model and device."""

from functools import partialmethod
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.support.training_runs import alone, assert_close, config, read_metrics, weights
from workloads.errors import UserError
from workloads.training import acceleration, chunked_loss, data
from workloads.training.acceleration import Acceleration
from workloads.training.config import TrainingConfig
from workloads.training.evaluation import make_batch
from workloads.training.load_config import load_config
from workloads.training.loop import Training, TrainingInputs
from workloads.training.models import build_shapes
from workloads.training.precision import Precision
from workloads.training.run import train

TINY = (
    "steps=2", "global_batch=4", "data.sequence_length=32", "data.bytes_at_most=5000", "model.num_hidden_layers=2",
    "saving.every_steps=2", "report_every_steps=1", "data.held_out=0.1",
)  # fmt: skip


@pytest.mark.parametrize(
    ("setting", "precision"),
    [("chunked_loss", "fp32"), ("chunked_loss", "bf16"), ("optimizer.fused", "fp32"), ("compile", "fp32")],
)
def test_a_setting_changes_no_result(
    setting: str, precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Weights, and loss and accuracy of each step and of the held-out text. Blocks are traced, and not made into C++ code:
    that takes a minute, and `make gpu` does it.
    """
    monkeypatch.setattr(torch.nn.Module, "compile", partialmethod(torch.nn.Module.compile, backend="aot_eager"))
    for value in ("false", "true"):
        run = config("deepseek-v3-tiny", *TINY, f"{setting}={value}", f"precision={precision}")
        train(run, tmp_path / value, {})
    without, with_it = (read_metrics(tmp_path / value) for value in ("false", "true"))
    margin = 1e-4 if precision == "fp32" else 0.01
    for one, other in zip(without[1:], with_it[1:], strict=True):
        for name in {"loss", "held_out_loss"} & one.keys():
            assert one[name] == pytest.approx(other[name], rel=margin), name
    if precision == "fp32":
        assert_close(weights(tmp_path / "false"), weights(tmp_path / "true"))


def test_positions_without_an_answer_count_in_no_chunk() -> None:
    """
    Conversations have -100 where nothing is learned.
    """
    torch.manual_seed(0)
    features, head = torch.randn(96, 16, requires_grad=True), torch.randn(64, 16, requires_grad=True)
    answers = torch.randint(0, 64, (96,))
    answers[::3] = -100
    expected = torch.nn.functional.cross_entropy(features @ head.T, answers, reduction="sum")
    gradients = torch.autograd.grad(expected, (features, head))
    loss, counted = chunked_loss.loss(features, head, answers, counting=True)
    assert counted is not None
    torch.testing.assert_close(counted[0], expected.detach())
    assert counted[1] == ((features @ head.T).argmax(1) == answers).sum()
    for one, other in zip(torch.autograd.grad(loss, (features, head)), gradients, strict=True):
        torch.testing.assert_close(one, other)


class Largest(TorchDispatchMode):
    """Notes the largest tensor that an operation returns, in numbers."""

    numel = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        sizes = [each.numel() for each in (result if isinstance(result, tuple | list) else [result])
                 if isinstance(each, torch.Tensor)]  # fmt: skip
        self.numel = max([self.numel, *sizes])
        return result


@pytest.mark.parametrize("counting", [False, True])
def test_logits_are_never_whole(counting: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workloads.training.chunked_loss.COUNTED_BYTES", 1 << 16)
    largest = {}
    for value in ("false", "true"):
        run = config("deepseek-v3-tiny", *TINY, "model.vocab_size=4096", f"chunked_loss={value}", "global_batch=32")
        training = Training(run, TrainingInputs(data.load(run.data)), alone(tmp_path))
        batch = make_batch(training.examples, torch.arange(32), training.context.device)
        with Largest() as mode:
            loss, _ = training._forward(training.model, batch, counting)
            loss.backward()
        largest[value] = mode.numel
    assert largest["false"] >= 32 * 32 * 4096
    assert largest["true"] < 32 * 32 * 4096 / 2


def chosen(run: TrainingConfig, kind: str, precision: str = "bf16") -> Acceleration:
    return acceleration.choose(run, build_shapes(run.model), kind, Precision(precision, "given"), 1)  # type: ignore[arg-type]


def llama(path: Path, layers: int, vocabulary: int = 128_256) -> TrainingConfig:
    from transformers import LlamaConfig

    shape = LlamaConfig(
        vocab_size=vocabulary, hidden_size=2048, intermediate_size=8192, num_hidden_layers=layers,
        num_attention_heads=32, num_key_value_heads=8, architectures=["LlamaForCausalLM"],
    )  # fmt: skip
    shape.save_pretrained(path)
    return load_config("lora", [f"model.path={path}", "model.lora=null", "global_batch=1", "accumulate=1"])


def test_the_defaults_follow_from_model_and_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acceleration, "_has_compiler", lambda: True)
    large, small = llama(tmp_path / "large", 16), llama(tmp_path / "small", 1, 2048)
    assert chosen(large, "cuda") == Acceleration(chunked_loss=True, compiled=True, fused=True)
    assert chosen(large, "cuda", "fp16") == Acceleration(compiled=True, copies_in_step=1)
    assert chosen(large, "cpu") == Acceleration(chunked_loss=True)
    assert chosen(small, "cuda") == Acceleration(fused=True)
    assert chosen(config("digits"), "cuda") == Acceleration(fused=True)
    experts = config("deepseek-v3")
    assert chosen(experts, "cuda") == Acceleration(chunked_loss=True, fused=True)
    monkeypatch.setattr(acceleration, "_has_compiler", lambda: False)
    assert not chosen(large, "cuda").compiled


def test_a_loss_that_has_no_chunks_is_refused(tmp_path: Path) -> None:
    from transformers import CohereConfig

    run = llama(tmp_path / "llama", 1, 2048).model_copy(update={"chunked_loss": True})
    with pytest.raises(UserError, match=r"chunked_loss: the sum of losses leaves the range of fp16; auto or false\."):
        chosen(run, "cuda", "fp16")
    CohereConfig(vocab_size=512, hidden_size=64, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64,
                 architectures=["CohereForCausalLM"]).save_pretrained(tmp_path / "cohere")  # fmt: skip
    scaled = run.model_copy(update={"model": run.model.model_copy(update={"path": str(tmp_path / "cohere")})})
    with pytest.raises(UserError, match="the logits of this cohere are not a product with one matrix"):
        chosen(scaled, "cuda")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("chunked_loss=true", "chunked_loss is for language models, and model.kind is image-classifier"),
        ("compile=true", "compile is for language models, and model.kind is image-classifier"),
    ],
)
def test_a_classifier_takes_no_setting_of_language_models(change: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        config("digits", change)


def test_a_fused_step_is_that_of_adamw() -> None:
    with pytest.raises(UserError, match="optimizer.fused is for adamw, and optimizer.kind is sgd"):
        config("digits", "optimizer.kind=sgd", "optimizer.fused=true")
