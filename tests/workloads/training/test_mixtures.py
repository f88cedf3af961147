"""Each mixture of experts that transformers has: its routers are counted once, and its biases move against the load."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.support import mixtures
from tests.support.training_runs import config, read_metrics, weights
from workloads.training import lora
from workloads.training.balancing import ExpertBalancer
from workloads.training.config import Lora
from workloads.training.models import LanguageModel, transformers_model
from workloads.training.run import train
from workloads.training.workers.workers import Alone

CHOICES = {"zaya": 5}
"""Choices of a router: its experts, and that of none."""
UNBALANCED = {"zaya": "a bias of the choice of no expert has a target of its own, and stays as it is"}
"""Architectures whose biases do not follow the load."""


def experts(block: nn.Module) -> list[nn.Module]:
    """Return the parts of *block* with its routed experts."""
    parts = dict(block.named_children()).items()
    return [part for name, part in parts if type(part).__name__.endswith("Experts") and not name.startswith("shared")]


def blocks(model: nn.Module) -> list[nn.Module]:
    """Return the modules with routed experts that a router chooses by the text, not by a table of tokens."""
    tables = [block for block in model.modules() if any("HashRouter" in str(type(part)) for part in block.children())]
    return [block for block in model.modules() if experts(block) and block not in tables]


def biases(model: nn.Module) -> list[Tensor]:
    """Return the tensors beside experts that are biases by their names, and that no gradient reaches."""
    tensors = [each for block in blocks(model) for each in (*block.named_buffers(), *block.named_parameters())]
    inside = {id(weight) for block in blocks(model) for part in experts(block) for weight in part.parameters()}
    named = [(name.rpartition(".")[2], each) for name, each in tensors if not each.requires_grad]
    return [each for name, each in named if "bias" in name and name != "bias" and id(each) not in inside]


class Loads:
    """The tokens of each expert, as the modules of the experts get them."""

    def __init__(self, model: nn.Module, choices: int) -> None:
        self.counts: list[Tensor] = []
        self._choices = choices
        for block in blocks(model):
            for part in experts(block):
                part.register_forward_pre_hook(self._count, with_kwargs=True)

    def _count(self, module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        tensors = [each for each in (*inputs, *named.values()) if isinstance(each, Tensor)]
        if chosen := [each for each in tensors if each.dtype == torch.long and each.dim() == 2]:
            self.counts.append(chosen[0].flatten().bincount(minlength=self._choices))


def step(model: LanguageModel, balancer: ExpertBalancer) -> None:
    """Train one step on a batch of random tokens."""
    x = torch.randint(1, 300, (2, 8))
    with balancer.recording(None):
        loss, _ = model(x, x)
    added = balancer.loss()
    (loss if added is None else loss + added).backward()
    torch.optim.SGD([weight for weight in model.parameters() if weight.requires_grad], lr=1e-3).step()
    balancer.adjust(Alone())


@pytest.mark.parametrize("adapters", [False, True], ids=["all weights", "LoRA"])
@pytest.mark.parametrize("architecture", mixtures.architectures())
def test_each_router_is_counted_once_and_its_bias_moves_against_the_load(architecture: str, adapters: bool) -> None:
    torch.manual_seed(0)
    model = LanguageModel(transformers_model(mixtures.settings(architecture)))
    if adapters:
        linear = [name for name, module in model.model.named_modules() if type(module) is nn.Linear]
        lora.adapt(
            model.model, Lora(layers=(next(name for name in linear if "router" not in name).rpartition(".")[2],))
        )
    before = [] if architecture in UNBALANCED else [bias.clone() for bias in biases(model)]
    balancer = ExpertBalancer(model, speed=0.5)
    loads = Loads(model, before[0].numel() if before else CHOICES.get(architecture, 4))
    step(model, balancer)

    assert f"{balancer}".startswith(f"{len(blocks(model))} routers, ")
    metrics = balancer.metrics()
    assert all(math.isfinite(value) for value in metrics.values())
    if loads.counts:
        shares = torch.cat([count / count.float().mean() for count in loads.counts])
        assert metrics["expert_load_max"] == pytest.approx(float(shares.max()))
    if not before:
        return
    moved = [(after - old).flatten() for after, old in zip(biases(model), before, strict=True)]
    if adapters:  # the routers are frozen
        assert not any(change.any() for change in moved)
        return
    expected = [(count.float().mean() - count).sign() * 0.5 for count in loads.counts]
    assert all(torch.equal(*pair) for pair in zip(moved, expected, strict=True))


@pytest.mark.parametrize("adapters", [False, True], ids=["all weights", "LoRA"])
@pytest.mark.parametrize("architecture", ["minimax_m2", "ernie4_5_moe", "llama4_text"])
def test_a_run_reports_the_load_and_keeps_the_biases(architecture: str, adapters: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    transformers_model(mixtures.settings(architecture)).save_pretrained(tmp_path / "model")
    (tmp_path / "text.txt").write_text("one and one is two, and two and two is four. " * 100)
    model = {"kind": "hugging-face", "path": str(tmp_path / "model"), "lora": {} if adapters else None}
    text = {"kind": "text", "path": str(tmp_path / "text.txt"), "sequence_length": 64}
    changes = (f"model={json.dumps(model)}", f"data={json.dumps(text)}", "steps=1", "global_batch=4", "accumulate=1")
    train(config("lora", *changes, "expert_bias_speed=0.5"), tmp_path / "out", {})

    last = [line for line in read_metrics(tmp_path / "out") if "loss" in line][-1]
    assert 0 <= last["expert_load_min"] <= 1 <= last["expert_load_max"] <= 4
    kept = [bias for name, bias in weights(tmp_path / "out").items() if "e_score_correction_bias" in name]
    assert len(kept) == {"minimax_m2": 4, "ernie4_5_moe": 3, "llama4_text": 0}[architecture]
    assert all(bool(bias.any()) != adapters for bias in kept)
