"""Which numbers to compute with: what the catalogue says the accelerator is made for."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

from workloads.catalogue.accelerators import Architecture
from workloads.errors import WorkloadError

Name = Literal["fp32", "bf16", "fp16"]
ORDER: tuple[Name, ...] = ("bf16", "fp16", "fp32")
"""bf16 first: its range is that of fp32, so it needs no scaling of the loss."""


@dataclass(frozen=True, slots=True)
class Precision:
    """A choice, and why."""

    name: Name
    why: str

    def autocast(self, device_type: str) -> AbstractContextManager[Any]:
        """Return the context in which the forward pass runs. Weights stay fp32."""
        import torch

        if self.name == "fp32":
            return nullcontext()
        dtype = torch.bfloat16 if self.name == "bf16" else torch.float16
        context: AbstractContextManager[Any] = torch.autocast(device_type, dtype=dtype)
        return context


def choose(asked: str, architecture: Architecture | None, device: str) -> Precision:
    """Return what to compute with.

    Args:
        asked: fp32, bf16, fp16, or auto.
        architecture: None where the catalogue has none for this device.
        device: As a person calls it.

    Raises:
        WorkloadError: *asked* is not what the device is made for.
    """
    if asked == "auto":
        if architecture is None:
            return Precision("fp32", f"the catalogue does not know {device}")
        if architecture.name == "CPU":
            return Precision("fp32", "a CPU; bf16 on request")
        chosen: Name = next((name for name in ORDER if name in architecture.precisions), "fp32")
        return Precision(chosen, f"{architecture.name} is made for it")
    known = tuple(name for name in ORDER if architecture and name in architecture.precisions)
    for name in ORDER:
        if name == asked and (name == "fp32" or name in known):
            return Precision(name, "asked for")
    if architecture is None:
        want, fix = "the catalogue does not know what it can do", "Write auto or fp32, or add it to the catalogue"
    else:
        want, fix = f"{device} ({architecture.name}) computes with {', '.join(known)}", f"Write auto or {known[0]}"
    raise WorkloadError("precision", f"got {asked}", want, fix)


class Scaler:
    """Dynamic loss scaling for fp16; for all else it passes through. Its state is plain values.

    Source: Micikevicius et al. 2018, arXiv:1710.03740, section 3.2.
    """

    def __init__(self, precision: Precision, device_type: str) -> None:
        import torch

        self._scaler = torch.amp.GradScaler(device_type, enabled=precision.name == "fp16")

    def scaled(self, loss: Any) -> Any:
        return self._scaler.scale(loss)

    def unscale(self, optimizer: Any) -> None:
        self._scaler.unscale_(optimizer)

    def step(self, optimizer: Any) -> bool:
        """Take the step unless a gradient has overflowed, and return whether it was taken."""
        before = self._scaler.get_scale()
        self._scaler.step(optimizer)
        self._scaler.update()
        return bool(self._scaler.get_scale() >= before)

    def state_dict(self) -> dict[str, Any]:
        return dict(self._scaler.state_dict())

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state:
            self._scaler.load_state_dict(state)
