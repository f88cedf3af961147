"""Experts share the work: a bias of each follows its load, over all processes."""

from pathlib import Path

import torch
from torch import Tensor, nn

from tests.support.training_runs import config, read_metrics
from workloads.training.balancing import ExpertBalancer
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
            return numbers + torch.tensor([[0, 0, 0, 6]])  # of the other process

    router = Router()
    balancer = ExpertBalancer(router, speed=0.5)
    router(torch.tensor([[4.0, 3.0, 2.0, 1.0]]).repeat(3, 1))
    balancer.adjust(Two())
    assert router.e_score_correction_bias.tolist() == [0.0, 0.0, 0.5, -0.5]  # loads 3, 3, 0, 6
    assert balancer.metrics() == {"expert_load_max": 2.0, "expert_load_min": 0.0, "experts_unused": 1}


def test_neither_an_evaluation_nor_a_frozen_router_is_balanced() -> None:
    router = Router()
    balancer = ExpertBalancer(router, speed=0.5)
    with torch.no_grad():
        router(torch.ones(3, 4))
    balancer.adjust(Alone())
    assert router.e_score_correction_bias.tolist() == [0.0] * 4
    assert ExpertBalancer(router.requires_grad_(False), speed=0.5).metrics() == {}


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
