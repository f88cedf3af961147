"""What a model takes of a device's memory, worked out before anything is allocated."""

from dataclasses import dataclass

import torch
from torch import nn

from workloads.common.errors import WorkloadError
from workloads.training.config import Optimizer, TrainingConfig
from workloads.training.device import Device
from workloads.training.models import build

BYTES = 4
"""Of a weight: weights, gradients and moments are fp32 with any precision of computing."""


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """What a replica of the model holds, in bytes. Activations come on top, and are not known before."""

    parameters: int
    weights: int
    gradients: int
    optimizer: int

    @property
    def total(self) -> int:
        return self.weights + self.gradients + self.optimizer

    def __str__(self) -> str:
        parts = f"weights {told(self.weights)} + gradients {told(self.gradients)} + optimizer {told(self.optimizer)}"
        return f"{self.parameters:,} parameters: {parts} = {told(self.total)}, and activations"


def arithmetic(config: TrainingConfig) -> Arithmetic:
    """Return what the model of *config* takes, from its shapes alone."""
    with torch.device("meta"):
        model = build(config.model)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    weights = sum(tensor.numel() * BYTES for tensor in _all(model))
    return Arithmetic(parameters, weights, parameters * BYTES, parameters * BYTES * moments(config.optimizer))


def refuse_too_large(config: TrainingConfig, needed: Arithmetic, device: Device) -> None:
    """Raise where not even weights, gradients and optimizer find room.

    Raises:
        WorkloadError: says how much is missing, and what would fit.
    """
    if needed.total <= device.memory:
        return
    got = f"got {needed}"
    want = f"{device.name} has {told(device.memory)} for this process, and every process holds all of it"
    fix = "Take a smaller model"
    if config.optimizer.kind == "adamw":
        by_sgd = needed.total - needed.optimizer + needed.parameters * BYTES
        fix += ", or optimizer sgd" if by_sgd <= device.memory else ""
    raise WorkloadError("model", got, want, f"{fix}; sharding over several devices is not there yet")


def moments(optimizer: Optimizer) -> int:
    """Return how many numbers an optimizer keeps for each weight."""
    return {"adamw": 2, "sgd": 1 if optimizer.momentum else 0}[optimizer.kind]


def told(size: int) -> str:
    amount = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.3g} {unit}"
        amount /= 1000
    return f"{amount:.3g} TB"


def _all(model: nn.Module) -> list[torch.Tensor]:
    return [*model.parameters(), *model.buffers()]
