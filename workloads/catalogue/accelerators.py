"""What the catalogue knows of the accelerator that a process finds itself on."""

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from workloads import catalogue


@dataclass(frozen=True, slots=True)
class Architecture:
    """What all accelerators of one architecture have in common."""

    name: str
    precisions: tuple[str, ...]
    """Those that it is made for, not those that merely run. Empty where no source is known for them."""


CPU = Architecture("CPU", ("fp32", "bf16"))
"""Not in the catalogue. bf16 runs on every processor that PyTorch does, and gains on few: only on request."""


def architecture_of(target: str) -> Architecture | None:
    """Return the architecture whose code is compiled for *target*; None where the catalogue has no such.

    Args:
        target: CUDA's compute capability, ``8.0``; AMD's ``gfx942``; or the name of an architecture without either.
    """
    names = {gpu["architecture"] for gpu in _read("gpus.yaml").values() if gpu.get("target") == target} or {target}
    rows = [row for name, row in _read("architectures.yaml").items() if name in names]
    if not rows:
        return None
    sure = "precisions" not in rows[0]["sources"].get("unverified", ())
    return Architecture(rows[0]["name"], tuple(rows[0]["precisions"]) if sure else ())


def peak_flops(pci: str) -> float | None:
    """Return the operations a second that the accelerator reaches at best on dense matrices of bf16 or fp16.

    Args:
        pci: Its ``vendor:device`` ids, in hex.

    Returns None where the catalogue has no such accelerator, or no such figure for it.
    """
    rows = [gpu for gpu in _read("gpus.yaml").values() if pci in gpu.get("pci", ()) and "peak_tflops" in gpu]
    return rows[0]["peak_tflops"] * 1e12 if rows else None


def of_gpu(name: str) -> Architecture | None:
    """Return the architecture of the catalogue's GPU *name*, such as ``t4``; None where it has no such."""
    gpu = _read("gpus.yaml").get(name)
    return architecture_of(gpu["architecture"]) if gpu else None


def gpu_names() -> tuple[str, ...]:
    """Return the names of the catalogue's GPUs."""
    return tuple(_read("gpus.yaml"))


@cache
def _read(file: str) -> dict[str, dict[str, Any]]:
    content: dict[str, dict[str, Any]] = yaml.safe_load((files(catalogue) / file).read_text(encoding="utf-8"))
    return content
