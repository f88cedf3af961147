"""Read the catalogue of accelerators: architectures, precisions and peak performance."""

from dataclasses import dataclass

from workloads.catalogue.read import read_catalogue

OWN_MEMORY_ROLES = ("nvidia_driver", "rocm")
"""Roles with drivers of GPUs that have their own memory, and that vLLM supports."""

ENVIRONMENT_ROLE = "nvidia_driver"
"""The role whose driver the environments of role `workloads` are for: their locks have PyTorch and vLLM for CUDA."""


@dataclass(frozen=True, slots=True)
class AcceleratorArchitecture:
    """The properties that all accelerators of one architecture share."""

    name: str
    precisions: tuple[str, ...]
    """Precisions that the architecture speeds up, not all that merely run. Empty if no source lists them."""


CPU = AcceleratorArchitecture("CPU", ("fp32", "bf16"))
"""The CPU, which is not in the catalogue. bf16 runs on every processor with PyTorch, and speeds up few of them, so it
is used only on request."""


def architecture_of(target: str) -> AcceleratorArchitecture | None:
    """Return the architecture of the code that is compiled for *target*; None if the catalogue does not have it.

    Args:
        target: CUDA's compute capability, ``8.0``; AMD's ``gfx942``; or the name of an architecture without either.
    """
    gpus = read_catalogue("gpus.yaml").values()
    names = {gpu["architecture"] for gpu in gpus if gpu.get("target") == target} or {target}
    rows = [row for name, row in read_catalogue("architectures.yaml").items() if name in names]
    if not rows:
        return None
    has_source = "precisions" not in rows[0]["sources"].get("unverified", ())
    return AcceleratorArchitecture(rows[0]["name"], tuple(rows[0]["precisions"]) if has_source else ())


def peak_flops(pci: str) -> float | None:
    """Return the peak operations per second on dense matrices of bf16 or fp16.

    Args:
        pci: The accelerator's ``vendor:device`` ids, in hex.

    Returns None if the catalogue lacks the accelerator, or this figure.
    """
    rows = [gpu for gpu in read_catalogue("gpus.yaml").values() if pci in gpu.get("pci", ()) and "peak_tflops" in gpu]
    return rows[0]["peak_tflops"] * 1e12 if rows else None


def gpu_architecture(name: str) -> AcceleratorArchitecture | None:
    """Return the architecture of the catalogue's GPU *name*, such as ``t4``; None if the catalogue does not have it."""
    gpu = read_catalogue("gpus.yaml").get(name)
    return architecture_of(gpu["architecture"]) if gpu else None


def gpu_memory_bytes(name: str) -> int | None:
    """Return the memory on the label of the catalogue's GPU *name*, in bytes.

    Returns None if the catalogue does not have the GPU, or if its memory is the host's or unverified.
    """
    gpu = read_catalogue("gpus.yaml").get(name, {})
    unverified = "memory" in gpu.get("sources", {}).get("unverified", ())
    if "memory" not in gpu or unverified or gpu["role"] not in OWN_MEMORY_ROLES:
        return None
    return int(str(gpu["memory"]).removesuffix("GB")) * 10**9


def gpu_without_environment(name: str) -> str | None:
    """Return the full name of the catalogue's GPU *name* if no environment of rackwright computes on it, else None."""
    gpu = read_catalogue("gpus.yaml").get(name)
    return str(gpu["name"]) if gpu and gpu["role"] != ENVIRONMENT_ROLE else None


def gpu_names() -> tuple[str, ...]:
    """Return the names of the catalogue's GPUs."""
    return tuple(read_catalogue("gpus.yaml"))
