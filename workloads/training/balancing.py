"""Balancing of experts without an auxiliary loss: the bias of each expert follows its load.

Source: DeepSeek-V3 Technical Report, arXiv:2412.19437, section 2.1.2.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from workloads.training.workers import Workers

# Shape letters: L routers, E experts of a router.


class ExpertBalancer:
    """Counts the tokens that each expert of a model gets, and adjusts the biases of the routers after each step."""

    def __init__(self, model: nn.Module, speed: float) -> None:
        """
        Args:
            speed: Change of a bias in one step.
        """
        self._speed = speed
        routers = (module for module in model.modules() if "e_score_correction_bias" in module._buffers)
        self._routers: list[Any] = [router for router in routers if all(w.requires_grad for w in router.parameters())]
        self._biases: list[Tensor] = [router.e_score_correction_bias for router in self._routers]
        if self._biases:
            self._counts_LE = torch.zeros_like(torch.stack(self._biases), dtype=torch.long)
            self._load_LE = torch.zeros_like(self._counts_LE)
        for number, router in enumerate(self._routers):
            router.register_forward_hook(partial(self._count, number))

    def _count(self, number: int, router: nn.Module, inputs: object, outputs: tuple[Tensor, ...]) -> None:
        if router.training and torch.is_grad_enabled():
            [chosen] = (output.flatten() for output in outputs if not output.is_floating_point())
            self._counts_LE[number].scatter_add_(0, chosen, torch.ones_like(chosen))

    @torch.no_grad()
    def adjust(self, workers: Workers) -> None:
        """Move each bias against the load of its expert over all processes; all processes call it after a step."""
        if not self._biases:
            return
        load_LE = workers.all_reduce_sum(self._counts_LE)
        self._load_LE += load_LE
        excess_LE = load_LE - load_LE.float().mean(1, keepdim=True)
        for bias, excess in zip(self._biases, excess_LE, strict=True):
            bias.sub_(excess.sign(), alpha=self._speed)
        self._counts_LE = torch.zeros_like(load_LE)

    def metrics(self) -> dict[str, float]:
        """Return the load since the last call: extremes as multiples of the mean, and the experts without a token."""
        if not self._biases:
            return {}
        load_LE, self._load_LE = self._load_LE, torch.zeros_like(self._load_LE)
        shares_LE = load_LE / load_LE.float().mean(1, keepdim=True)
        return {
            "expert_load_max": float(shares_LE.max()),
            "expert_load_min": float(shares_LE.min()),
            "experts_unused": int((load_LE == 0).sum()),
        }
