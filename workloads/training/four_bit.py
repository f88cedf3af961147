"""Frozen linear layers whose weights have 4 bits, beside which adapters are trained (QLoRA), by bitsandbytes.

Source: Dettmers et al. 2023, arXiv:2305.14314, section 3: 4-bit NormalFloat with double quantization.
"""

from importlib.util import find_spec
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from workloads.errors import Diagnostic, UserError
from workloads.training.config import HuggingFace, TrainingConfig

LIBRARY = "bitsandbytes"
DEVICES = ("cpu", "cuda")
"""Kinds of devices for which this module uses the library; it has others, which are untried here."""
BLOCK, NESTED_BLOCK = 64, 256
"""Weights that share a scale, and scales that share one. Source: section 3 of the paper, and the library's defaults."""


DIVIDED = ("packed", "scales")
"""The buffers of a layer that processes may divide; the others are small."""


class FourBitLinear(nn.Module):
    """A frozen linear layer with weights of 4 bits, which are no part of its state.

    A pass computes with one matrix after the other in the format of its numbers. If processes divide the weights, each
    pass gathers those of one layer, and frees them after.
    """

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features, self.bias = layer.in_features, layer.out_features, layer.bias
        self._group: Any = None
        """The processes that divide the weights; None if this process has all of them."""
        device, weights = layer.weight.device, self.in_features * self.out_features
        scales = -(-weights // BLOCK)

        def buffer(name: str, *shape: int, dtype: torch.dtype = torch.float32) -> None:
            self.register_buffer(name, torch.empty(shape, dtype=dtype, device=device), persistent=False)

        buffer("packed", -(-weights // 2), 1, dtype=torch.uint8)
        buffer("scales", scales, dtype=torch.uint8)
        buffer("scales_of_scales", -(-scales // NESTED_BLOCK))
        buffer("mean_scale")
        buffer("code", 16)
        buffer("code_of_scales", 256)

    @property
    def weights(self) -> int:
        """Number of weights."""
        return int(self.in_features * self.out_features)

    def divide(self, group: Any) -> None:
        """Make room for this process's part of the weights alone, in a layer without values.

        Args:
            group: The processes that have the weights together.
        """
        self._group = group
        for name in DIVIDED:
            buffer = self.get_buffer(name)
            part = buffer.new_empty(-(-buffer.numel() // group.size()))
            self.register_buffer(name, part, persistent=False)

    def quantize(self, weight_OI: Tensor) -> None:
        """Take the values of *weight_OI*, rounded to 4 bits, or this process's part of them."""
        from bitsandbytes import functional

        whole = weight_OI.to(self.packed.device, torch.float32).contiguous()
        packed, state = functional.quantize_4bit(whole, blocksize=BLOCK, compress_statistics=True, quant_type="nf4")
        nested = state.state2
        values = (packed, state.absmax, nested.absmax, state.offset, state.code, nested.code)
        for (name, own), value in zip(self._buffers.items(), values, strict=True):
            assert own is not None
            if self._group is not None and name in DIVIDED:
                first = self._group.rank() * own.numel()
                part = value.flatten()[first : first + own.numel()]
                own.zero_()[: part.numel()].copy_(part)  # the last part may be shorter
            else:
                own.copy_(value.reshape(own.shape))

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the whole weights as numbers of *dtype*; all processes that divide them call it."""
        from bitsandbytes import functional

        packed, scales = self._whole("packed", -(-self.weights // 2)), self._whole("scales", -(-self.weights // BLOCK))
        weight_OI: Tensor = functional.dequantize_4bit(packed.view(-1, 1), self._state(dtype, scales))
        return weight_OI

    def _whole(self, name: str, size: int) -> Tensor:
        """Return the first *size* values of a buffer, gathered from the processes that divide it."""
        part = self.get_buffer(name)
        if self._group is None:
            return part
        whole = part.new_empty(self._group.size() * part.numel())
        dist.all_gather_single(whole, part, group=self._group)
        return whole[:size]

    def forward(self, x: Tensor) -> Tensor:
        import bitsandbytes

        kind = x.device.type
        if kind != "meta" and torch.is_autocast_enabled(kind):
            x = x.to(torch.get_autocast_dtype(kind))  # the library's product is none that autocast knows
        bias = None if self.bias is None else self.bias.to(x.dtype)
        if self._group is not None:
            divided: Tensor = _product(x, self)
            return divided if bias is None else divided + bias
        y: Tensor = bitsandbytes.matmul_4bit(x, self.packed.t(), self._state(x.dtype), bias=bias)
        return y

    def _state(self, dtype: torch.dtype, scales: Tensor | None = None) -> Any:
        """Return the library's description of the weights, which become numbers of *dtype*."""
        from bitsandbytes.functional import QuantState

        nested = QuantState(
            absmax=self.scales_of_scales, blocksize=NESTED_BLOCK, code=self.code_of_scales, dtype=torch.float32
        )
        shape = torch.Size((self.out_features, self.in_features))
        return QuantState(
            absmax=self.scales if scales is None else scales, shape=shape, dtype=dtype, blocksize=BLOCK,
            code=self.code, quant_type="nf4", offset=self.mean_scale, state2=nested,
        )  # fmt: skip


class _FrozenProduct(torch.autograd.Function):
    """The product with the frozen weights of a layer, which are gathered again for the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: FourBitLinear) -> Tensor:
        ctx.layer = layer
        return F.linear(x, layer.dequantize(x.dtype))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        [gradient] = gradients
        return gradient @ ctx.layer.dequantize(gradient.dtype), None


@torch.compiler.disable
def _product(x: Tensor, layer: FourBitLinear) -> Any:
    return _FrozenProduct.apply(x, layer)


def is_requested(config: TrainingConfig) -> bool:
    """Return whether *config* trains adapters beside weights of 4 bits."""
    return isinstance(config.model, HuggingFace) and bool(config.model.lora and config.model.lora.four_bit)


def check(config: TrainingConfig, kind: str) -> None:
    """Raise unless this process can compute with weights of 4 bits, if *config* needs them.

    Args:
        kind: Kind of the device.

    Raises:
        UserError: The library is missing, or the device is another one.
    """
    if not is_requested(config):
        return
    where = "model.lora.four_bit"
    if kind not in DEVICES:
        problem, help = f"weights of 4 bits were not tried on a device of kind {kind}", "Write four_bit: false"
        raise UserError(Diagnostic(where, problem, f"a device of kind {' or '.join(DEVICES)}", help))
    if find_spec(LIBRARY) is None:
        problem, expected = f"the library {LIBRARY} is not installed", f"{LIBRARY} beside PyTorch"
        raise UserError(Diagnostic(where, problem, expected, "Install it, or write four_bit: false"))


def convert(model: Any) -> None:
    """Replace the linear layers of *model*, of transformers, but its head, by layers of 4 bits.

    A layer whose inputs are no multiple of 64 stays as it is: on CPUs, bitsandbytes 0.50 returns wrong values for it.
    """
    head = model.get_output_embeddings()
    for name, layer in list(model.named_modules()):
        if type(layer) is nn.Linear and layer is not head and layer.in_features % BLOCK == 0:
            _replace(model, name, FourBitLinear(layer))


def layers(model: nn.Module) -> dict[str, FourBitLinear]:
    """Return the layers of 4 bits by name."""
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, FourBitLinear)}


def restore(model: nn.Module) -> None:
    """Replace the layers of 4 bits of *model* by plain ones with the same values."""
    for name, layer in layers(model).items():
        plain = nn.Linear(layer.in_features, layer.out_features, bias=False, device="meta")
        plain.weight, plain.bias = nn.Parameter(layer.dequantize(), requires_grad=False), layer.bias
        _replace(model, name, plain)


def _replace(model: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, layer)
