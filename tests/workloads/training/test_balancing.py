"""Experts share the work: a bias of each follows its load, over all processes."""

import json
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.support import families
from tests.support.training_runs import config, read_metrics
from workloads.training.balancing import ExpertBalancer, routers
from workloads.training.models import LanguageModel, recompute_activations
from workloads.training.run import train
from workloads.training.workers.workers import Alone


class Router(nn.Module):
    """A router that always prefers its first experts, as long as their biases let it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(4))
        self.register_buffer("e_score_correction_bias", torch.zeros(4))

    def forward(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        return scores, torch.topk(scores + self.e_score_correction_bias, 2).indices


def test_biases_move_against_the_load_of_all_processes() -> None:
    class Two(Alone):
        def all_reduce_sum(self, numbers: Tensor) -> Tensor:
            return numbers + torch.tensor([0, 0, 0, 6])  # of the other process

    router = Router()
    balancer = ExpertBalancer(router, speed=0.5)
    with balancer.recording(None):
        router(torch.tensor([[4.0, 3.0, 2.0, 1.0]]).repeat(3, 1))
    balancer.adjust(Two())
    assert router.e_score_correction_bias.tolist() == [0.0, 0.0, 0.5, -0.5]  # loads 3, 3, 0, 6
    assert balancer.metrics() == {"expert_load_max": 2.0, "expert_load_min": 0.0, "experts_unused": 1}


def test_an_evaluation_is_not_counted_and_a_frozen_router_not_balanced() -> None:
    router = Router()
    balancer = ExpertBalancer(router, speed=0.5)
    router(torch.ones(3, 4))
    balancer.adjust(Alone())
    assert balancer.metrics() == {}
    frozen = ExpertBalancer(router.requires_grad_(False), speed=0.5)
    with frozen.recording(None):
        router(torch.ones(3, 4))
    frozen.adjust(Alone())
    assert router.e_score_correction_bias.tolist() == [0.0] * 4
    assert frozen.metrics()["experts_unused"] == 2


def test_positions_without_tokens_are_not_counted() -> None:
    router = Router()
    balancer = ExpertBalancer(router, speed=0.5)
    answers = torch.tensor([[-100, 7, -100], [5, 5, 5]])
    scores = torch.tensor([4.0, 3.0, 2.0, 1.0]).repeat(6, 1)
    scores[2] = torch.tensor([1.0, 2.0, 3.0, 4.0])  # after the last answer of the first row
    with balancer.recording(answers):
        router(scores)
    balancer.adjust(Alone())
    assert balancer.metrics()["experts_unused"] == 2


AUXILIARY = {
    "mixtral": ("num_local_experts", {}),
    "qwen3_moe": ("num_experts", {}),
    "gpt_oss": ("num_local_experts", {}),
    "qwen3_next": ("num_experts", {"num_hidden_layers": 2, "layer_types": ["linear_attention", "full_attention"]}),
}
"""Families with an auxiliary loss, and their name of the number of experts."""


@pytest.mark.parametrize("masked", [False, True], ids=["texts", "conversations"])
@pytest.mark.parametrize("family", AUXILIARY)
def test_the_auxiliary_loss_and_the_load_are_those_of_transformers(family: str, masked: bool) -> None:
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    settings = families.settings(family, router_aux_loss_coef=0.25, **AUXILIARY[family][1])
    model = LanguageModel(AutoModelForCausalLM.from_config(settings).float().train())
    balancer = ExpertBalancer(model, speed=0.0)
    x, y = torch.randint(0, 300, (3, 8)), torch.full((3, 8), 7)
    mask = torch.ones(3, 8, dtype=torch.long)
    if masked:
        y[0, 5:], mask[0, 5:], y[1, :3] = -100, 0, -100
    with balancer.recording(y if masked else None):
        model(x, y)
    added = balancer.loss()
    outputs = model.model(input_ids=x, output_router_logits=True, use_cache=False)
    module = sys.modules[type(model.model).__module__]
    arguments = (getattr(settings, AUXILIARY[family][0]), settings.num_experts_per_tok)
    layers = [(each.detach(),) for each in outputs.router_logits]
    losses = [module.load_balancing_loss_func(each, *arguments, mask if masked else None) for each in layers]
    own = torch.stack(losses).mean()
    assert added is not None and torch.allclose(added, 0.25 * own, rtol=1e-5)
    assert "weight 0.25" in f"{balancer}"

    balancer.adjust(Alone())
    chosen = [each.topk(2, -1).indices[mask.flatten().bool()].flatten().bincount(minlength=4)
              for each in outputs.router_logits]  # fmt: skip
    shares = torch.stack([each / each.float().mean() for each in chosen])
    metrics = balancer.metrics()
    assert metrics["expert_load_max"] == pytest.approx(float(shares.max()))
    assert metrics["expert_load_min"] == pytest.approx(float(shares.min()))
    assert metrics["router_loss"] == pytest.approx(float(own), rel=1e-5)


def test_the_auxiliary_loss_reaches_the_routers_through_activations_that_are_computed_again() -> None:
    from transformers import AutoModelForCausalLM

    gradients = []
    for again in (False, True):
        torch.manual_seed(0)
        model = LanguageModel(AutoModelForCausalLM.from_config(families.settings("qwen3_moe")).float().train())
        if again:
            recompute_activations(model)
        balancer = ExpertBalancer(model, speed=0.0, weight=1.0)
        x = torch.randint(0, 300, (2, 8))
        with balancer.recording(None):
            loss, _ = model(x, x)
        added = balancer.loss()
        assert added is not None
        (loss * 0 + added).backward()
        balancer.adjust(Alone())
        gradients.append([router.module.weight.grad for router in routers(model)])
    assert all(each.abs().max() > 0 for each in gradients[0])
    assert all(torch.allclose(*pair, atol=1e-6) for pair in zip(*gradients, strict=True))


@pytest.mark.parametrize("weight", [0.0, None])
def test_experts_of_a_mixture_with_an_auxiliary_loss_share_the_work(weight: float | None, tmp_path: Path) -> None:
    """Without it the load drifts; otherwise the test would prove nothing."""
    path = families.save("qwen3_moe", tmp_path / "model", num_experts=12, num_hidden_layers=2, router_aux_loss_coef=0.2)
    model = json.dumps({"kind": "hugging-face", "path": path})
    (tmp_path / "text.txt").write_text("one and one is two, and two and two is four. " * 600)
    text = json.dumps({"kind": "text", "path": str(tmp_path / "text.txt"), "sequence_length": 64})
    run = ("steps=40", "global_batch=8", "accumulate=1", "optimizer.learning_rate=0.01", "schedule.kind=constant")
    own = [] if weight is None else [f"router_loss_weight={weight}"]
    train(config("lora", f"model={model}", f"data={text}", *run, *own), tmp_path / "out", {})
    last = [line for line in read_metrics(tmp_path / "out") if "expert_load_max" in line][-1]
    assert (last["expert_load_min"] > 0.3) == (weight is None)
    assert ("router_loss" in last) == (weight is None)


def lines(out: Path, *changes: str) -> list[dict[str, float]]:
    """Return the reports of a short run of the tiny recipe."""
    short = ("steps=60", "global_batch=4", "data.sequence_length=64", "data.bytes_at_most=200000")
    train(config("deepseek-v3-tiny", *short, "schedule.warmup_steps=5", "saving.every_steps=60", *changes), out, {})
    return [line for line in read_metrics(out) if "loss" in line]


def test_no_expert_is_dead_after_the_recipe(tmp_path: Path) -> None:
    last = lines(tmp_path)[-1]
    assert last["experts_unused"] == 0
    assert last["expert_load_min"] > 0.2


def test_without_balancing_experts_die(tmp_path: Path) -> None:
    """
    Otherwise the test above would prove nothing.
    """
    assert lines(tmp_path, "expert_bias_speed=0")[-1]["expert_load_min"] < 0.2
