"""Choice of the number format, from the formats that the catalogue lists for the accelerator."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

from workloads.catalogue.accelerators import AcceleratorArchitecture
from workloads.errors import Diagnostic, UserError

Name = Literal["fp32", "bf16", "fp16"]
ORDER: tuple[Name, ...] = ("bf16", "fp16", "fp32")
"""Order of preference. bf16 is first: it has the range of fp32, so it needs no loss scaling."""


@dataclass(frozen=True, slots=True)
class Precision:
    """The chosen number format and the reason."""

    name: Name
    why: str

    @property
    def dtype(self) -> Any:
        """The type of numbers in PyTorch."""
        import torch

        return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[self.name]

    def forward_context(self, device_type: str, sharded: bool) -> AbstractContextManager[Any]:
        """Return the context of the forward pass.

        Sharded weights are cast when processes gather them. Autocast would keep a copy of every gathered weight.
        """
        import torch

        if self.name == "fp32" or sharded:
            return nullcontext()
        context: AbstractContextManager[Any] = torch.autocast(device_type, dtype=self.dtype)
        return context


FP32 = Precision("fp32", "the default")


def choose(requested: str, architecture: AcceleratorArchitecture | None, device: str) -> Precision:
    """Return the number format to compute with.

    Args:
        requested: fp32, bf16, fp16, or auto.
        architecture: Entry in the catalogue; None if the catalogue has none for this device.
        device: Name of the device for messages.

    Raises:
        UserError: The device does not support *requested*.
    """
    if requested == "auto":
        if architecture is None:
            return Precision("fp32", f"the catalogue has no entry for {device}")
        if architecture.name == "CPU":
            return Precision("fp32", "a CPU; bf16 on request")
        best: Name = next((name for name in ORDER if name in architecture.precisions), "fp32")
        return Precision(best, f"{architecture.name} supports it")
    supported = tuple(name for name in ORDER if architecture and name in architecture.precisions)
    for name in ORDER:
        if name == requested and (name == "fp32" or name in supported):
            return Precision(name, "requested")
    if architecture is None:
        problem, expected = f"it is unknown whether {device} supports {requested}", "auto or fp32"
        help = "Write auto or fp32, or add the device to the catalogue"
    else:
        problem = f"{device} ({architecture.name}) does not support {requested}"
        expected, help = f"auto, or one of {', '.join(supported)}", f"Write auto or {supported[0]}"
    raise UserError(Diagnostic("precision", problem, expected, help))


class Scaler:
    """Dynamic loss scaling for computations or exchanged gradients in fp16; others pass unchanged.

    Its state has plain values.

    Source: Micikevicius et al. 2018, arXiv:1710.03740, section 3.2.
    """

    def __init__(self, precision: Precision, device_type: str, compressed: bool = False) -> None:
        """
        Args:
            compressed: Whether processes exchange gradients in fp16, which needs the scaling in each precision.
        """
        import torch

        self._scaler = torch.amp.GradScaler(device_type, enabled=precision.name == "fp16" or compressed)

    @property
    def is_enabled(self) -> bool:
        return bool(self._scaler.is_enabled())

    def scale(self, loss: Any) -> Any:
        return self._scaler.scale(loss)

    def unscale(self, optimizer: Any) -> None:
        self._scaler.unscale_(optimizer)

    def step(self, optimizer: Any) -> bool:
        """Take the step unless a gradient has overflowed; return whether the step was taken."""
        before = self._scaler.get_scale()
        self._scaler.step(optimizer)
        self._scaler.update()
        return bool(self._scaler.get_scale() >= before)

    def state_dict(self) -> dict[str, Any]:
        return dict(self._scaler.state_dict())

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state:
            self._scaler.load_state_dict(state)
