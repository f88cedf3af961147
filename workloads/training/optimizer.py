"""Creation of the optimizer with its complete state."""

import ctypes
import math
from typing import Any

import torch
from torch import Tensor, nn

from workloads.training.config import TrainingConfig
from workloads.training.sharded import local_part


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
    for parameter in weights:  # one after the other: memory for all gradients would not be free again
        parameter.grad = torch.zeros_like(parameter)
        optimizer.step()  # rate 0 and zero gradients change no weight; weights without a gradient are left out
        parameter.grad = None
    for state in optimizer.state.values():
        for value in state.values():
            if isinstance(value, Tensor):
                value.zero_()
    _return_freed_memory()
    return optimizer


def _return_freed_memory() -> None:
    """Give the host memory of the gradients above back to the system; the C library would keep a third of the state."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc alone has it
    if trim is not None:
        trim(0)


@torch.no_grad()
def clip_gradients(model: nn.Module, max_norm: float) -> None:
    """Scale the gradients of *model* so that the norm of all of them together is at most *max_norm*.

    PyTorch's function takes the norm of gradients on one mesh; those of parallel layers are on others.
    """
    gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
    if len({getattr(gradient, "device_mesh", None) for gradient in gradients}) < 2:
        nn.utils.clip_grad_norm_(model.parameters(), max_norm)
        return
    import torch.distributed as dist  # imported here: parallel layers alone need it

    squares = [local_part(gradient).square().sum() / _copies(gradient, dist.get_world_size()) for gradient in gradients]
    total = torch.stack(squares).sum()
    dist.all_reduce(total)
    scale = (max_norm / (total.sqrt() + 1e-6)).clamp(max=1.0)  # PyTorch's rule
    for gradient in gradients:
        local_part(gradient).mul_(scale)


def _copies(gradient: Any, world: int) -> int:
    """Return the number of processes that have the same part of the distributed tensor *gradient*."""
    mesh = gradient.device_mesh
    sizes = (mesh.size(axis) for axis, place in enumerate(gradient.placements) if not place.is_replicate())
    return int(world // math.prod(sizes))
