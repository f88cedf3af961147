"""What a model takes of a device's memory, worked out before anything is allocated."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from workloads.errors import WorkloadError
from workloads.training.config import ImageClassifier, Optimizer, Text, TrainingConfig
from workloads.training.device import Device
from workloads.training.models import blocks

BYTES = 4
"""Of a weight: weights, gradients and moments are fp32 with any precision of computing."""


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """What a process holds of the model, in bytes."""

    parameters: int
    """Of the whole model."""
    trained: int
    """Parameters that are not frozen."""
    weights: int
    gradients: int
    optimizer: int
    shards: int = 1
    """Processes that share one copy."""
    gathered: int = 0
    """Of a shared copy: the largest block, and what is in none, which are whole while they compute."""
    activations: int | None = None
    """What a backward pass needs of the forward pass; None where the data decide, as with a mixture of experts."""

    @property
    def total(self) -> int:
        return self.weights + self.gradients + self.optimizer + self.gathered + (self.activations or 0)

    def __str__(self) -> str:
        parts = {"weights": self.weights, "gradients": self.gradients, "optimizer": self.optimizer}
        parts |= {"a block that is brought together": self.gathered} if self.shards > 1 else {}
        parts |= {"activations": self.activations} if self.activations is not None else {}
        of = f", {self.trained:,} of them trained" if self.trained != self.parameters else ""
        by = f" among {self.shards} processes" if self.shards > 1 else ""
        told_of = " + ".join(f"{name} {told(size)}" for name, size in parts.items())
        rest = "" if self.activations is not None else ", and activations"
        return f"{self.parameters:,} parameters{of}{by}: {told_of} = {told(self.total)}{rest}"


def arithmetic(
    config: TrainingConfig, model: nn.Module, shards: int = 1, processes: int = 1, bytes_per_activation: int = BYTES
) -> Arithmetic:
    """Return what the model of *config* takes of a process's memory.

    Args:
        model: Its shapes.
        shards: Processes that share one copy.
        processes: Those that share a batch.
        bytes_per_activation: 2 where it computes with 16 bits. Some of them are wider there, so it is the least.
    """
    parameters = count(model)
    trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    return Arithmetic(
        parameters,
        trained,
        -(-sum(tensor.numel() * BYTES for tensor in _all(model)) // shards),
        -(-trained * BYTES // shards),
        -(-trained * BYTES * moments(config.optimizer) // shards),
        shards,
        _gathered(model) if shards > 1 else 0,
        _activations(config, model, -(-config.global_batch // (processes * config.accumulate)), bytes_per_activation),
    )


def refuse_too_large(config: TrainingConfig, needed: Arithmetic, device: Device) -> None:
    """Raise where not even what is known finds room.

    Raises:
        WorkloadError: says how much is missing, and what would fit.
    """
    if needed.total <= device.memory:
        return
    holds = f"each of {needed.shards} holds its part" if needed.shards > 1 else "every process holds all of it"
    want = f"{device.name} has {told(device.memory)} for this process, and {holds}"
    ways = [*_by_sgd(config, needed, device), *_by_sharding(needed, device)]
    fix = " or ".join(["Take a smaller model", *ways])
    raise WorkloadError("model", f"got {needed}", want, fix)


def _by_sgd(config: TrainingConfig, needed: Arithmetic, device: Device) -> Iterator[str]:
    less = needed.trained * BYTES // needed.shards
    if config.optimizer.kind == "adamw" and needed.total - less <= device.memory:
        yield "optimizer sgd"


def _by_sharding(needed: Arithmetic, device: Device) -> Iterator[str]:
    """Yield how many processes could share the model. Blocks are the smaller the more there are, so it is a bound."""
    divided = (needed.weights + needed.gradients + needed.optimizer) * needed.shards
    room = device.memory - needed.gathered - (needed.activations or 0)
    if room > 0:
        yield f"sharding full over {-(-divided // room)} processes or more"


def _activations(config: TrainingConfig, model: nn.Module, examples: int, bytes_each: int) -> int | None:
    """Return what a backward pass over so many *examples* needs kept of the forward pass; None where data decide."""
    kept: dict[int, int] = {tensor.untyped_storage()._cdata: 0 for tensor in _all(model)}  # weights are counted already

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        size = storage.nbytes()  # several tensors may share it
        kept.setdefault(storage._cdata, size * bytes_each // BYTES if tensor.is_floating_point() else size)
        return tensor

    x, y = _batch(config, examples)
    try:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            torch.nn.functional.cross_entropy(model(x).flatten(0, -2), y.flatten())
    except (RuntimeError, NotImplementedError):  # it asks for a value, and shapes have none
        return None
    return sum(kept.values())


def _batch(config: TrainingConfig, examples: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the shapes of so many examples and their answers."""
    whole = {"dtype": torch.long, "device": "meta"}
    if isinstance(config.model, ImageClassifier):
        side = config.model.side
        return torch.empty(examples, side, side, device="meta"), torch.empty(examples, **whole)
    assert isinstance(config.data, Text)
    rows = torch.empty(examples, config.data.sequence_length, **whole)
    return rows, rows


def count(module: nn.Module) -> int:
    """Return how many parameters *module* has."""
    return sum(weight.numel() for weight in module.parameters())


def _gathered(model: nn.Module) -> int:
    sizes = [count(block) for block in blocks(model)]
    return (count(model) - sum(sizes) + max(sizes, default=0)) * BYTES


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
