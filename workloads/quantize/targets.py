"""Which precision a processor is made for, by the catalogue; another one is refused, and the right one named."""

from dataclasses import dataclass

from workloads.catalogue.accelerators import gpu_names, of_gpu
from workloads.errors import WorkloadError
from workloads.quantize.config import Precision

CPU = "cpu"
MADE: tuple[Precision, ...] = ("int8", "fp16", "fp32")
"""What is made here, the smallest first."""
_CPU: tuple[str, ...] = ("fp32", "int8")
"""ONNX Runtime computes with 8 bits on every x86 and arm64, and turns fp16 into fp32 and back."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """A precision for a target, and why."""

    target: str
    precision: Precision
    why: str

    @property
    def signed(self) -> bool:
        """Whether activations are int8, as TensorRT takes them, or uint8, which fuse in ONNX Runtime on a CPU."""
        return self.target != CPU


def choose(target: str, precision: str) -> Chosen:
    """Return the precision for *target*; *precision* is one, or auto.

    Raises:
        WorkloadError: the catalogue does not know the target, or the target gains nothing by the precision.
    """
    if target == CPU:
        name, made_for = "a CPU", _CPU
    else:
        found = of_gpu(target)
        if found is None:
            raise WorkloadError(
                "--target", f"got {target}", f"targets are {CPU}, {', '.join(gpu_names())}", "Take one of them"
            )
        name, made_for = found.name, found.precisions
    best: Precision = next((made for made in MADE if made in made_for), "fp32")
    if precision == "auto":
        why = f"{name} is made for {', '.join(made_for)}" if made_for else f"no source says what {name} is made for"
        return Chosen(target, best, why)
    if precision not in ("fp32", *made_for):
        got = f"got {precision} for {target}"
        raise WorkloadError(
            "precision", got, f"{name} gains by {', '.join(made_for) or 'what no source says'}", f"Take {best}"
        )
    return Chosen(target, next(made for made in MADE if made == precision), "it was asked for")
