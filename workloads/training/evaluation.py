"""Accuracy and loss of a model on examples that it was not trained on."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workloads.training.data import Examples
from workloads.training.device import Device
from workloads.training.precision import Precision
from workloads.training.workers import Workers


class EvaluationScore(NamedTuple):
    """Means over all answers. A classifier gives one answer per example, a language model one per position."""

    accuracy: float
    loss: float


def score(
    model: nn.Module,
    examples: Examples,
    batch: int,
    workers: Workers,
    device: Device,
    precision: Precision,
    in_chunks: bool = False,
) -> EvaluationScore:
    """Return the score of *model* on *examples*, which the *workers* divide among them; all workers call it.

    Args:
        batch: Examples that all processes together evaluate at once.
        in_chunks: Whether *model* computes its loss in chunks.
    """
    totals = torch.zeros(3, device=device.torch)
    model.eval()
    with torch.no_grad(), precision.forward_context(device.torch.type, workers.sharded):
        for chunk in torch.arange(len(examples)).split(batch):
            share = chunk[workers.rank :: workers.size]
            x, y = (tensor.to(device.torch) for tensor in examples.take(share if len(share) else chunk[:1]))
            # also with an empty share: a sharded model needs the call of every process
            counted = model(x, y)[1] if in_chunks else _count(model(x).flatten(0, -2).float(), y.flatten())
            if len(share):
                totals += torch.cat([counted, (y >= 0).sum().reshape(1)])
    model.train()
    loss_sum, correct, answers = workers.all_reduce_sum(totals).tolist()
    return EvaluationScore(correct / answers, loss_sum / answers)


def _count(logits: Tensor, answers: Tensor) -> Tensor:
    """Return the sum of the losses, and the number of right answers."""
    right = (logits.argmax(-1) == answers).sum()
    return torch.stack([F.cross_entropy(logits, answers, reduction="sum"), right.float()])
