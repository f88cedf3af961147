"""Estimate of the device memory that a model needs, computed before anything is allocated."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from workloads.errors import Diagnostic, UserError
from workloads.training.config import ImageClassifier, Optimizer, Text, TrainingConfig
from workloads.training.device import Device
from workloads.training.models import blocks

BYTES = 4
"""Bytes of a weight: weights, gradients and moments are fp32 in each precision."""


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """The memory that a process needs for the model, in bytes."""

    parameters: int
    """Number of parameters of the whole model."""
    trainable: int
    """Number of parameters that are not frozen."""
    weights: int
    gradients: int
    optimizer: int
    shards: int = 1
    """Number of processes that share one copy."""
    unsharded: int = 0
    """Parts of a shared copy that are whole while they compute: the largest block, and the weights outside blocks."""
    activations: int | None = None
    """Values of the forward pass that the backward pass needs; None if the data decide, as in a mixture of experts."""

    @property
    def total(self) -> int:
        return self.weights + self.gradients + self.optimizer + self.unsharded + (self.activations or 0)

    def __str__(self) -> str:
        parts = {"weights": self.weights, "gradients": self.gradients, "optimizer": self.optimizer}
        parts |= {"one unsharded block": self.unsharded} if self.shards > 1 else {}
        parts |= {"activations": self.activations} if self.activations is not None else {}
        trainable = f", {self.trainable:,} of them trained" if self.trainable != self.parameters else ""
        sharing = f" among {self.shards} processes" if self.shards > 1 else ""
        terms = " + ".join(f"{name} {format_bytes(size)}" for name, size in parts.items())
        rest = "" if self.activations is not None else ", and activations"
        return f"{self.parameters:,} parameters{trainable}{sharing}: {terms} = {format_bytes(self.total)}{rest}"


def estimate(
    config: TrainingConfig, model: nn.Module, shards: int = 1, processes: int = 1, bytes_per_activation: int = BYTES
) -> MemoryEstimate:
    """Return the memory that a process needs for the model of *config*.

    Args:
        model: The model on the meta device, which has shapes alone.
        shards: Number of processes that share one copy.
        processes: Number of processes that share a batch.
        bytes_per_activation: 2 for 16-bit precision, a lower bound as some activations are wider.
    """
    parameters = count_parameters(model)
    trainable = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    return MemoryEstimate(
        parameters,
        trainable,
        -(-sum(tensor.numel() * BYTES for tensor in _state_tensors(model)) // shards),
        -(-trainable * BYTES // shards),
        -(-trainable * BYTES * moments_per_weight(config.optimizer) // shards),
        shards,
        _unsharded_bytes(model) if shards > 1 else 0,
        _activations(config, model, -(-config.global_batch // (processes * config.accumulate)), bytes_per_activation),
    )


def check_memory(config: TrainingConfig, needed: MemoryEstimate, device: Device) -> None:
    """Raise if the estimate exceeds the memory of the device.

    Raises:
        UserError: The message gives both sizes and the changes that would fit.
    """
    if needed.total <= device.memory:
        return
    note = f"each of {needed.shards} processes holds a part" if needed.shards > 1 else "each process holds the model"
    expected = f"at most {format_bytes(device.memory)}, which {device.name} has for this process"
    changes = [*_suggest_sgd(config, needed, device), *_suggest_sharding(needed, device)]
    help = " or ".join(["Use a smaller model", *changes])
    raise UserError(Diagnostic("model", f"the training needs too much memory: {needed}", expected, help, note))


def _suggest_sgd(config: TrainingConfig, needed: MemoryEstimate, device: Device) -> Iterator[str]:
    less = needed.trainable * BYTES // needed.shards
    if config.optimizer.kind == "adamw" and needed.total - less <= device.memory:
        yield "optimizer sgd"


def _suggest_sharding(needed: MemoryEstimate, device: Device) -> Iterator[str]:
    """Yield how many processes could share the model: an upper bound, as activations shrink with more processes."""
    total = (needed.weights + needed.gradients + needed.optimizer) * needed.shards
    free = device.memory - needed.unsharded - (needed.activations or 0)
    if free > 0:
        yield f"sharding full over {-(-total // free)} processes or more"


def _activations(config: TrainingConfig, model: nn.Module, examples: int, bytes_each: int) -> int | None:
    """Return the bytes that the backward pass over *examples* examples needs; None if the data decide."""
    saved: dict[int, int] = {tensor.untyped_storage()._cdata: 0 for tensor in _state_tensors(model)}  # counted already

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        size = storage.nbytes()  # several tensors may share it
        saved.setdefault(storage._cdata, size * bytes_each // BYTES if tensor.is_floating_point() else size)
        return tensor

    x, y = _batch(config, examples)
    try:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            torch.nn.functional.cross_entropy(model(x).flatten(0, -2), y.flatten())
    except (RuntimeError, NotImplementedError):  # the model reads a value, and the meta device has none
        return None
    return sum(saved.values())


def _batch(config: TrainingConfig, examples: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the shapes of *examples* examples and their answers."""
    whole = {"dtype": torch.long, "device": "meta"}
    if isinstance(config.model, ImageClassifier):
        side = config.model.side
        return torch.empty(examples, side, side, device="meta"), torch.empty(examples, **whole)
    assert isinstance(config.data, Text)
    rows = torch.empty(examples, config.data.sequence_length, **whole)
    return rows, rows


def count_parameters(module: nn.Module) -> int:
    """Return the number of parameters of *module*."""
    return sum(weight.numel() for weight in module.parameters())


def _unsharded_bytes(model: nn.Module) -> int:
    sizes = [count_parameters(block) for block in blocks(model)]
    return (count_parameters(model) - sum(sizes) + max(sizes, default=0)) * BYTES


def moments_per_weight(optimizer: Optimizer) -> int:
    """Return how many numbers *optimizer* stores for each weight."""
    return {"adamw": 2, "sgd": 1 if optimizer.momentum else 0}[optimizer.kind]


def format_bytes(size: int) -> str:
    amount = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.3g} {unit}"
        amount /= 1000
    return f"{amount:.3g} TB"


def _state_tensors(model: nn.Module) -> list[torch.Tensor]:
    return [*model.parameters(), *model.buffers()]
