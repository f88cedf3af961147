"""The optimizer, with all of its state there from the beginning."""

import torch
from torch import Tensor, nn

from workloads.training.config import TrainingConfig


def make_optimizer(config: TrainingConfig, model: nn.Module) -> torch.optim.Optimizer:
    """Return the optimizer, its state there from the beginning: what is broadcast and saved has always one shape.

    Horovod would make the state itself, by a step that also lets the weights decay and counts as one.
    """
    chosen = config.optimizer
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer: torch.optim.Optimizer
    if chosen.kind == "adamw":
        optimizer = torch.optim.AdamW(weights, lr=0.0, weight_decay=chosen.weight_decay)
    else:
        optimizer = torch.optim.SGD(weights, lr=0.0, momentum=chosen.momentum, weight_decay=chosen.weight_decay)
    for parameter in weights:
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()  # with rate 0 and no gradient nothing moves
    for state in optimizer.state.values():
        for value in state.values():
            if isinstance(value, Tensor):
                value.zero_()
    optimizer.zero_grad()
    return optimizer
