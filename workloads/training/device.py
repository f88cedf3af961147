"""Selection of the device that a process trains on, by the local rank of the process."""

import importlib.util
from dataclasses import dataclass, replace
from typing import Any

import torch

from workloads.catalogue.accelerators import CPU, AcceleratorArchitecture, architecture_of
from workloads.errors import Diagnostic, UserError


@dataclass(frozen=True, slots=True)
class Device:
    """A device and its properties."""

    kind: str
    """cpu, cuda, rocm or gaudi."""
    name: str
    torch: Any
    """The ``torch.device``. PyTorch calls AMD devices cuda and Intel's Gaudi hpu."""
    memory: int
    """Total memory in bytes; for a CPU the free memory of the host, divided among its processes."""
    architecture: AcceleratorArchitecture | None
    """Entry in the catalogue; None if the catalogue has none."""
    host_memory: int = 0
    """Free memory of the host in bytes, divided among its processes."""
    uuid: str = ""
    """UUID in NVIDIA's management library; empty for devices of other vendors."""

    def synchronize(self) -> None:
        """Wait until the device has finished its work, so that times measured next are correct."""
        if self.kind in ("cuda", "rocm"):
            torch.cuda.synchronize(self.torch)
        elif self.kind == "gaudi":
            torch.hpu.synchronize()

    def seed(self, number: int) -> None:
        """Seed the random numbers of the CPU and of this device.

        `torch.manual_seed` seeds every type of device and records a stack trace for each type that is absent, which
        took more than half a millisecond of each step.
        """
        if self.kind == "gaudi":
            torch.manual_seed(number)
            return
        torch.default_generator.manual_seed(number)
        if self.kind in ("cuda", "rocm"):
            torch.cuda.manual_seed(number)

    def flush(self) -> None:
        """Submit the operations that Gaudi has collected; on other devices do nothing."""
        if self.kind == "gaudi":
            from habana_frameworks.torch import core

            core.mark_step()


def select_device(requested: str, local_rank: int, local_world: int) -> Device:
    """Return the device of the process with *local_rank* among the *local_world* of its host.

    Raises:
        UserError: There is no such device, or there are fewer devices than processes.
    """
    available = _available_kind()
    kind = available if requested == "auto" else requested
    if kind == "cpu":
        return replace(_cpu(), memory=_cpu().memory // local_world)
    if kind != available:
        raise UserError(
            Diagnostic(
                "device",
                f"PyTorch finds no {requested} on this host",
                f"auto, or {available}, which PyTorch finds",
                f"Write auto, or repair the driver of {requested}",
            )
        )
    count = torch.hpu.device_count() if kind == "gaudi" else torch.cuda.device_count()
    if local_world > count:
        problem = f"{local_world} processes were started on this host, which has {count} devices"
        help = f"Start {count} processes on this host"
        raise UserError(Diagnostic("device", problem, "a device for each process", help))
    found = _gaudi() if kind == "gaudi" else _gpu(kind, local_rank)
    return replace(found, host_memory=_cpu().memory // local_world)


def _available_kind() -> str:
    """Return the kind of device that PyTorch sees here."""
    if torch.cuda.is_available():
        return "rocm" if torch.version.hip else "cuda"
    if importlib.util.find_spec("habana_frameworks"):
        import habana_frameworks.torch.hpu  # noqa: F401  # makes torch.hpu

        return "gaudi" if torch.hpu.is_available() else "cpu"
    return "cpu"


def _cpu() -> Device:
    import psutil

    return Device("cpu", "CPU", torch.device("cpu"), psutil.virtual_memory().available, CPU)


def _gpu(kind: str, index: int) -> Device:
    torch.cuda.set_device(index)
    properties = torch.cuda.get_device_properties(index)
    amd_name, nvidia_name = getattr(properties, "gcnArchName", ""), f"{properties.major}.{properties.minor}"
    architecture = architecture_of(amd_name.partition(":")[0] if kind == "rocm" else nvidia_name)
    uuid = f"GPU-{properties.uuid}" if kind == "cuda" else ""
    device = torch.device("cuda", index)
    return Device(kind, properties.name, device, properties.total_memory, architecture, uuid=uuid)


def _gaudi() -> Device:
    """Return the single Gaudi that the launcher makes visible to this process."""
    name = torch.hpu.get_device_name()
    _, total = torch.hpu.memory.mem_get_info()
    return Device("gaudi", name, torch.device("hpu"), total, architecture_of("gaudi2" if "2" in name else name.lower()))
