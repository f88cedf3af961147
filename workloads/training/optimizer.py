"""Creation of the optimizer with its complete state."""

import torch
from torch import Tensor, nn

from workloads.training.config import TrainingConfig


def make_optimizer(config: TrainingConfig, model: nn.Module, fused: bool = False) -> torch.optim.Optimizer:
    """Return the optimizer with its complete state, so that broadcasts and checkpoints always have one shape.

    Otherwise Horovod creates the state by a step that also decays the weights and counts as a step.

    Args:
        fused: Whether one kernel takes the whole step of AdamW.
    """
    settings = config.optimizer
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer: torch.optim.Optimizer
    if settings.kind == "adamw":
        optimizer = torch.optim.AdamW(weights, lr=0.0, weight_decay=settings.weight_decay, fused=fused or None)
    else:
        optimizer = torch.optim.SGD(weights, lr=0.0, momentum=settings.momentum, weight_decay=settings.weight_decay)
    for parameter in weights:
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()  # rate 0 and zero gradients change no weight
    for state in optimizer.state.values():
        for value in state.values():
            if isinstance(value, Tensor):
                value.zero_()
    optimizer.zero_grad()
    return optimizer
