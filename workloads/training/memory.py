"""Estimate of the device memory that a model needs, computed before anything is allocated."""

import copy
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import nn

from workloads.checkpoint import READ_BYTES
from workloads.errors import Diagnostic, UserError
from workloads.training import four_bit, parallel
from workloads.training.acceleration import Acceleration, is_dense, positions, rows
from workloads.training.chunked_loss import chunk_rows
from workloads.training.config import ImageClassifier, Optimizer, Tokenized, TrainingConfig
from workloads.training.device import Device
from workloads.training.models import LanguageModel, blocks, frozen_embedding, frozen_outside_blocks, shapes_alone
from workloads.training.precision import FP32, Precision

BYTES = 4
"""Bytes of a weight: weights, gradients and moments are fp32 in each precision, but for frozen weights outside the
blocks of a shared copy."""


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
    layout: str = ""
    """Division of the layers among these processes; empty if FSDP alone divides them."""
    gathered: int = 0
    """Weights outside the blocks of a shared copy, which are whole from the forward pass on."""
    embedding: int = 0
    """A frozen embedding of a shared copy, which is whole before the first block alone."""
    blocks: int = 0
    """Bytes that a shared copy needs in addition while a block computes: two whole blocks, and whole gradients."""
    activations: int | None = None
    """Values of the forward pass that the backward pass needs; None if the data decide, as in a mixture of experts."""
    recomputed: int = 0
    """Values of a block that the backward pass computes again."""
    dequantized: int = 0
    """The largest weights of 4 bits as numbers of the computation, which exist for one layer at a time."""
    loss: int = 0
    """Logits of a chunk, or the gradient of all logits, which exist for a moment."""
    reading: int = 0
    """A piece of a checkpoint, of which each process reads its own part into the weights and moments that it has."""
    step: int = 0
    """Copies of the trained weights that the step of the optimizer needs, when activations are gone."""
    host: int = 0
    """Host memory beside a GPU: the snapshot of a checkpoint, and one module while its weights are filled; at least a
    piece of a checkpoint that is read."""

    @property
    def total(self) -> int:
        return self.after_forward + self.gradients + self.blocks + self.recomputed + self.dequantized + self.excess

    @property
    def excess(self) -> int:
        """The memory for the embedding, the loss or the step beyond that for the backward pass of a block."""
        if self.activations is None:
            return 0
        embedding = self.embedding - self.activations - self.blocks - self.recomputed
        return max(0, embedding, self.loss - self.blocks - self.recomputed, self.step - self.activations - self.blocks)

    @property
    def after_forward(self) -> int:
        """The memory between the forward and the backward pass of the first step, before gradients exist."""
        return self.weights + self.optimizer + self.gathered + (self.activations or 0)

    @property
    def resuming(self) -> int:
        """The memory while a process reads its part of a checkpoint, by whichever number of processes it was saved."""
        return self.weights + self.optimizer + self.reading

    def __str__(self) -> str:
        parts = {"weights": self.weights, "gradients": self.gradients, "optimizer": self.optimizer}
        parts |= {"gathered weights and gradients": self.gathered + self.blocks} if self.shards > 1 else {}
        parts |= {"activations": self.activations} if self.activations is not None else {}
        parts |= {"those of one block": self.recomputed} if self.recomputed else {}
        parts |= {"weights of one layer": self.dequantized} if self.dequantized else {}
        parts |= {"the embedding, the loss or the step": self.excess} if self.excess else {}
        trainable = f", {self.trainable:,} of them trained" if self.trainable != self.parameters else ""
        sharing = f" among {self.shards} processes{self.layout}" if self.shards > 1 else ""
        terms = " + ".join(f"{name} {format_bytes(size)}" for name, size in parts.items())
        rest = "" if self.activations is not None else ", and activations"
        return f"{self.parameters:,} parameters{trainable}{sharing}: {terms} = {format_bytes(self.total)}{rest}"


def estimate(
    config: TrainingConfig,
    model: nn.Module,
    shards: int = 1,
    processes: int = 1,
    precision: Precision = FP32,
    acceleration: Acceleration = Acceleration(),  # noqa: B008  # it is frozen
    sharded: bool = False,
) -> MemoryEstimate:
    """Return the memory that a process needs for the model of *config*.

    Args:
        model: The model on the meta device, which has shapes alone.
        shards: Number of processes that share one copy.
        processes: Number of batches that processes compute at once.
        precision: The format of the computation. Without shards, activations are a lower bound, as some are wider.
        sharded: Whether processes gather weights; a group of one process may do it, too.
    """
    sharded = sharded or shards > 1
    local = parallel.local_model(config, model)
    width = precision.dtype.itemsize
    part = _part(config, local, shards, width if sharded else BYTES)
    trained = [weight for weight in local.parameters() if weight.requires_grad]
    packed = four_bit.layers(local)
    buffers = sum(buffer.nbytes for buffer in local.buffers()) - _divided_bytes(packed.values())
    weights = sum(map(part, local.parameters())) + buffers + _divided_bytes(packed.values(), shards)
    gradients = sum(map(part, trained))
    optimizer = gradients * moments_per_weight(config.optimizer)
    kept = _activations(config, local, rows(config, processes), precision, sharded, acceleration.chunked_loss)
    embedding = frozen_embedding(local)
    embedded = count_parameters(embedding) if embedding else 0
    recomputed = max(kept[1:], default=0) if kept and config.recompute_activations else 0
    return MemoryEstimate(
        count_parameters(model),
        sum(weight.numel() for weight in model.parameters() if weight.requires_grad),
        weights,
        gradients,
        optimizer,
        shards,
        _layout(config),
        (_outside_blocks(local) - embedded) * width if sharded else 0,
        embedded * width if sharded else 0,
        _block_bytes(local, width) if sharded else 0,
        None if kept is None else kept[0] if config.recompute_activations else sum(kept),
        recomputed,
        max((_dequantized_bytes(layer, width, sharded) for layer in packed.values()), default=0),
        _loss_bytes(config, model, processes, acceleration.chunked_loss),
        READ_BYTES,
        gradients * acceleration.copies_in_step,
        max(gradients + optimizer + max(map(_own_bytes, model.modules())), READ_BYTES),
    )


def check_memory(
    config: TrainingConfig,
    needed: MemoryEstimate,
    device: Device,
    suggest: Callable[[], Iterable[str]] = tuple,
) -> None:
    """Raise if the estimate exceeds the memory of the device.

    Args:
        suggest: Function that returns other changes that would fit.

    Raises:
        UserError: The message gives both sizes and the changes that would fit.
    """
    check_host_memory(needed, device)
    if needed.total <= device.memory:
        return
    note = f"each of {needed.shards} processes holds a part" if needed.shards > 1 else "each process holds the model"
    expected = f"at most {format_bytes(device.memory)}, which {device.name} has for this process"
    changes = [*_suggest_sgd(config, needed, device), *_suggest_sharding(needed, device), *suggest()]
    help = " or ".join(["Use a smaller model", *changes])
    raise UserError(Diagnostic("model", f"the training needs too much memory: {needed}", expected, help, note))


def check_host_memory(needed: MemoryEstimate, device: Device) -> None:
    """Raise if the estimate exceeds the host memory beside a GPU.

    Raises:
        UserError: The message gives both sizes.
    """
    if device.kind == "cpu" or needed.host <= device.host_memory:
        return
    problem = f"each process needs {format_bytes(needed.host)} of host memory for checkpoints and initial weights"
    expected = f"at most {format_bytes(device.host_memory)}, the share of a process in the free memory of this host"
    help = "Use hosts with more memory, or sharding full over more hosts"
    raise UserError(Diagnostic("model", problem, expected, help))


def _suggest_sgd(config: TrainingConfig, needed: MemoryEstimate, device: Device) -> Iterator[str]:
    less = needed.trainable * BYTES // needed.shards
    if config.optimizer.kind == "adamw" and needed.total - less <= device.memory:
        yield "optimizer sgd"


def _suggest_sharding(needed: MemoryEstimate, device: Device) -> Iterator[str]:
    """Yield how many processes could share the model: an upper bound, as activations shrink with more processes."""
    total = (needed.weights + needed.gradients + needed.optimizer) * needed.shards
    free = device.memory - needed.gathered - needed.blocks - (needed.activations or 0)
    if free > 0:
        yield f"sharding full over {-(-total // free)} processes or more"


def _activations(
    config: TrainingConfig,
    model: nn.Module,
    examples: int,
    precision: Precision,
    casts_weights: bool,
    chunked_loss: bool,
) -> list[int] | None:
    """Return the bytes that the backward pass over *examples* rows of examples needs; None if the data decide.

    The first number is what is outside of blocks, with their inputs if they are computed again; then follow the blocks.

    Args:
        casts_weights: Whether the weights themselves have the format of *precision*, as gathered ones have.
    """
    if not is_dense(model):
        return None
    model = _with_weights_as(model, precision if casts_weights else FP32)
    saved = _SavedValues(model, BYTES if casts_weights else precision.dtype.itemsize, config.recompute_activations)
    x, y = _batch(config, examples)
    try:
        shapes = shapes_alone() if isinstance(model, LanguageModel) else nullcontext()
        with shapes, torch.autograd.graph.saved_tensors_hooks(saved.keep, lambda tensor: tensor):
            if chunked_loss:
                assert isinstance(model, LanguageModel)
                model.features(x)
            else:
                torch.nn.functional.cross_entropy(model(x).flatten(0, -2).float(), y.flatten())
    except (RuntimeError, NotImplementedError):  # the model reads a value, and the meta device has none
        return None
    if chunked_loss:  # its gradients, which autograd does not count
        saved.sizes[0] += precision.dtype.itemsize * _loss_gradients(model, x.numel())
    return saved.sizes


def _loss_gradients(model: nn.Module, positions: int) -> int:
    """Return the numbers of the gradients of features and head, which the forward pass of a loss in chunks computes."""
    assert isinstance(model, LanguageModel)
    head = model.model.get_output_embeddings().weight
    return int(positions * head.shape[1] + head.numel() * head.requires_grad)


def _loss_bytes(config: TrainingConfig, model: nn.Module, processes: int, chunked: bool) -> int:
    """Return the bytes in fp32 of the logits of a chunk, or of the gradient of all logits."""
    logits = positions(config, processes)
    if not isinstance(model, LanguageModel):
        return 0
    vocabulary, width = model.model.config.vocab_size, model.model.config.hidden_size
    return int(BYTES * vocabulary * (chunk_rows(logits, vocabulary, width) if chunked else logits))


class _SavedValues:
    """Counts the bytes of the values that autograd saves, outside of blocks and in each block."""

    def __init__(self, model: nn.Module, width: int, inputs: bool) -> None:
        """
        Args:
            width: Bytes of a number that counts as fp32 here.
            inputs: Whether the inputs of blocks count as saved.
        """
        self.sizes, self._place = [0], 0
        self._width, self._inputs = width, inputs
        self._counted = {tensor.untyped_storage()._cdata for tensor in _state_tensors(model)}
        self._kept: list[torch.Tensor] = []
        """The values: without them another tensor may take the place of one, and its address."""
        for block in blocks(model):
            block.register_forward_pre_hook(self._enter)
            block.register_forward_hook(self._leave)

    def keep(self, tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._counted:  # several tensors may share it
            self._counted.add(storage._cdata)
            self._kept.append(tensor)
            size = storage.nbytes()
            self.sizes[self._place] += size * self._width // BYTES if tensor.is_floating_point() else size
        return tensor

    def _enter(self, block: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if self._inputs:
            self.keep(inputs[0])
        self.sizes.append(0)
        self._place = len(self.sizes) - 1

    def _leave(self, block: nn.Module, inputs: object, outputs: object) -> None:
        self._place = 0


def _with_weights_as(model: nn.Module, precision: Precision) -> nn.Module:
    """Return a copy of *model*, on the meta device, to hook into, whose weights have the type of *precision*."""
    copied = copy.deepcopy(model)
    for weight in copied.parameters():
        weight.data = weight.data.to(precision.dtype)
    return copied


def _batch(config: TrainingConfig, examples: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the shapes of *examples* rows of examples and their answers."""
    whole = {"dtype": torch.long, "device": "meta"}
    if isinstance(config.model, ImageClassifier):
        side = config.model.side
        return torch.empty(examples, side, side, device="meta"), torch.empty(examples, **whole)
    assert isinstance(config.data, Tokenized)
    tokens = torch.empty(examples, config.data.sequence_length, **whole)
    return tokens, tokens


def count_parameters(module: nn.Module) -> int:
    """Return the number of parameters of *module*, those of 4 bits included."""
    packed = sum(layer.weights for layer in four_bit.layers(module).values())
    return packed + sum(int(weight.numel()) for weight in module.parameters())


def _layout(config: TrainingConfig) -> str:
    names = {"tensor_parallel": config.tensor_parallel, "expert_parallel": config.expert_parallel}
    parts = [f"{name} {size}" for name, size in names.items() if size > 1]
    return f" ({', '.join(parts)})" if parts else ""


def _part(config: TrainingConfig, local: nn.Module, shards: int, width: int) -> Callable[[torch.Tensor], int]:
    """Return a function that returns the bytes of the largest part of a weight of *local*, whose rows FSDP divides.

    Args:
        width: Bytes of a frozen weight outside the blocks.
    """
    frozen = {id(weight) for weight in frozen_outside_blocks(local)}
    exchanged = {id(weight) for weight in parallel.exchanged_weights(config, local)}

    def size(weight: torch.Tensor) -> int:
        parts = shards // (config.expert_parallel if id(weight) in exchanged else config.tensor_parallel)
        rows = len(weight) if weight.dim() else 1
        own = -(-rows // parts) * (weight.numel() // max(1, rows))
        return int(own * (width if id(weight) in frozen else BYTES))

    return size


def _divided_bytes(layers: Iterable[four_bit.FourBitLinear], shards: int = 1) -> int:
    """Return the bytes of the largest part of the weights of 4 bits that *shards* processes divide."""
    buffers = [layer.get_buffer(name) for layer in layers for name in four_bit.DIVIDED]
    return sum(-(-buffer.numel() // shards) * buffer.itemsize for buffer in buffers)


def _dequantized_bytes(layer: four_bit.FourBitLinear, width: int, sharded: bool) -> int:
    """Return the bytes of the numbers of *layer*, and of its gathered weights if processes divide them."""
    return layer.weights * width + (_divided_bytes([layer]) if sharded else 0)


def _outside_blocks(model: nn.Module) -> int:
    return count_parameters(model) - sum(count_parameters(block) for block in blocks(model))


def _block_bytes(model: nn.Module, width: int) -> int:
    """Return the bytes of the largest pair of whole blocks, as FSDP gathers the next one ahead, and whole gradients.

    A gradient is once in the format of the computation, and once as fp32 for the exchange.
    """
    # weights of 4 bits are gathered by their layer, when it computes
    sizes = [sum(int(weight.numel()) for weight in block.parameters()) for block in blocks(model)]
    pair = max((size + following for size, following in zip(sizes, [*sizes[1:], 0], strict=True)), default=0)
    trained = [sum(weight.numel() for weight in block.parameters() if weight.requires_grad) for block in blocks(model)]
    outside = sum(weight.numel() for weight in model.parameters() if weight.requires_grad) - sum(trained)
    return int(pair * width + (max(trained, default=0) + outside) * (width + BYTES))


def _own_bytes(module: nn.Module) -> int:
    """Return the bytes of the module's own weights while they are filled."""
    packed = module.weights if isinstance(module, four_bit.FourBitLinear) else 0
    return BYTES * (packed + sum(int(weight.numel()) for weight in module.parameters(recurse=False)))


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
