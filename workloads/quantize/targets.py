"""Choose the precision for a processor by the catalogue, and refuse precisions that it does not speed up."""

from dataclasses import dataclass

from workloads.catalogue.accelerators import gpu_architecture, gpu_names
from workloads.errors import Diagnostic, UserError
from workloads.quantize.config import Precision

CPU = "cpu"
PRECISIONS: tuple[Precision, ...] = ("int8", "fp16", "fp32")
"""Precisions that this package writes, the smallest first."""
_CPU: tuple[str, ...] = ("fp32", "int8")
"""Precisions for a CPU: ONNX Runtime runs 8 bits on every x86 and arm64, and turns fp16 into fp32 and back."""


@dataclass(frozen=True, slots=True)
class PrecisionChoice:
    """The precision for a target, and the reason."""

    target: str
    precision: Precision
    why: str

    @property
    def is_signed(self) -> bool:
        """Whether activations are int8, as TensorRT takes them, or uint8, which fuse in ONNX Runtime on a CPU."""
        return self.target != CPU


def choose(target: str, precision: str) -> PrecisionChoice:
    """Return the precision for *target*; *precision* is a precision, or auto.

    Raises:
        UserError: the catalogue has no such target, or the target gains nothing by the precision.
    """
    if target == CPU:
        name, precisions = "a CPU", _CPU
    else:
        gpu = gpu_architecture(target)
        if gpu is None:
            raise UserError(
                Diagnostic(
                    "--target",
                    f"no such target, {target}",
                    f"one of {CPU}, {', '.join(gpu_names())}",
                    "Name one of these",
                )
            )
        name, precisions = gpu.name, gpu.precisions
    best: Precision = next((candidate for candidate in PRECISIONS if candidate in precisions), "fp32")
    if precision == "auto":
        why = (
            f"{name} is made for {', '.join(precisions)}" if precisions else f"no source lists the precisions of {name}"
        )
        return PrecisionChoice(target, best, why)
    if precision not in ("fp32", *precisions):
        problem = f"{name} does not support {precision}"
        raise UserError(
            Diagnostic("precision", problem, f"one of {', '.join(dict.fromkeys(('fp32', *precisions)))}", f"Use {best}")
        )
    return PrecisionChoice(
        target, next(candidate for candidate in PRECISIONS if candidate == precision), "as requested"
    )
