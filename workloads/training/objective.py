"""The objective of a training: the loss of a batch, and the metrics that follow from its sums."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workloads.training import dpo
from workloads.training.config import Preferences, TrainingConfig


class Batch(NamedTuple):
    """Examples on the device of the model."""

    x: Tensor
    y: Tensor
    reference: Tensor | None = None
    """Log-probabilities of the answers of pairs by the reference."""


class Objective(Protocol):
    """The loss of a model."""

    sums: int
    """Number of sums that `forward` counts: the losses, the right answers, and those of further metrics."""

    def forward(self, model: nn.Module, batch: Batch, counting: bool) -> tuple[Tensor, Tensor | None]:
        """Return the sum of the losses of *batch*; if *counting*, also its sums, in fp32. No logits stay."""
        ...

    def metrics(self, sums: Sequence[float], answers: float) -> dict[str, float]:
        """Return the metrics of the *sums* over *answers* answers."""
        ...


class CrossEntropy:
    """The loss of the right class, or of the next token."""

    sums = 2

    def __init__(self, in_chunks: bool = False) -> None:
        """
        Args:
            in_chunks: Whether the model computes the loss in chunks.
        """
        self._in_chunks = in_chunks

    def forward(self, model: nn.Module, batch: Batch, counting: bool) -> tuple[Tensor, Tensor | None]:
        x, y = batch.x, batch.y
        if self._in_chunks:
            in_chunks: tuple[Tensor, Tensor | None] = model(x, y, counting)
            return in_chunks
        logits = model(x).flatten(0, -2).float()
        loss = F.cross_entropy(logits, y.flatten(), reduction="sum")
        if not counting:
            return loss, None
        return loss, torch.stack([loss.detach(), (logits.detach().argmax(-1) == y.flatten()).sum().float()])

    def metrics(self, sums: Sequence[float], answers: float) -> dict[str, float]:
        return {"loss": sums[0] / answers, "accuracy": sums[1] / answers}


class DirectPreference:
    """The loss of direct preference optimization. A pair is right if the model prefers the chosen answer."""

    sums = 3

    def __init__(self, beta: float) -> None:
        self._beta = beta

    def forward(self, model: nn.Module, batch: Batch, counting: bool) -> tuple[Tensor, Tensor | None]:
        assert batch.reference is not None
        losses, margins = dpo.loss(dpo.answer_log_probs(model, batch.x, batch.y), batch.reference, self._beta)
        loss = losses.sum()
        if not counting:
            return loss, None
        return loss, torch.stack([loss, (margins > 0).sum().float(), margins.sum()]).detach()

    def metrics(self, sums: Sequence[float], answers: float) -> dict[str, float]:
        return {"loss": sums[0] / answers, "accuracy": sums[1] / answers, "margin": sums[2] / answers}


def choose(config: TrainingConfig, in_chunks: bool) -> Objective:
    """Return the objective of *config*.

    Args:
        in_chunks: Whether the model computes its loss in chunks.
    """
    return DirectPreference(config.dpo_beta) if isinstance(config.data, Preferences) else CrossEntropy(in_chunks)
