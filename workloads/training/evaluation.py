"""How well a model does on examples that it is not trained on."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from workloads.training.data import Examples
from workloads.training.device import Device
from workloads.training.precision import Precision
from workloads.training.workers import Workers


class Score(NamedTuple):
    """Means over all answers: of a classifier one for each example, of a language model one for each position."""

    accuracy: float
    loss: float


def score(
    model: nn.Module, examples: Examples, batch: int, workers: Workers, device: Device, precision: Precision
) -> Score:
    """Return how *model* does on *examples*, of which each of *workers* takes a part; all of them call it.

    Args:
        batch: How many of them are taken at once, by all processes together.
    """
    totals = torch.zeros(3, device=device.torch)
    model.eval()
    with torch.no_grad(), precision.autocast(device.torch.type):
        for chunk in torch.arange(len(examples)).split(batch):
            mine = chunk[workers.rank :: workers.size]
            x, y = (tensor.to(device.torch) for tensor in examples.take(mine if len(mine) else chunk[:1]))
            logits = model(x).flatten(0, -2)  # by everybody: where the model is sharded, each call takes all of them
            if len(mine):
                loss = F.cross_entropy(logits, y.flatten(), reduction="sum")
                right = (logits.argmax(-1) == y.flatten()).sum()
                totals += torch.stack([loss, right, torch.tensor(y.numel(), device=device.torch)])
    model.train()
    of_all, correct, answers = workers.all_reduce_sum(totals).tolist()
    return Score(correct / answers, of_all / answers)
