"""The device that a process trains on: the one that its place among its host's processes says."""

import importlib.util
from dataclasses import dataclass, replace
from typing import Any

import torch

from workloads.catalogue.accelerators import CPU, Architecture, architecture_of
from workloads.errors import WorkloadError


@dataclass(frozen=True, slots=True)
class Device:
    """A device, and what is known of it."""

    kind: str
    """cpu, cuda, rocm or gaudi."""
    name: str
    torch: Any
    """A ``torch.device``. AMD's are called cuda there, Intel's Gaudi hpu."""
    memory: int
    """Bytes, all of them; of a CPU what is free now. Processes that share a device share it."""
    architecture: Architecture | None
    """None where the catalogue does not know it."""
    uuid: str = ""
    """What NVIDIA's library calls it; empty for what is not NVIDIA's."""

    def settle(self) -> None:
        """Wait until the device has done all it was given, so that a clock read next is true."""
        if self.kind in ("cuda", "rocm"):
            torch.cuda.synchronize(self.torch)
        elif self.kind == "gaudi":
            torch.hpu.synchronize()

    def seed(self, number: int) -> None:
        """Let the random numbers of the processor and of this device begin anew.

        `torch.manual_seed` does so for every sort of device, and writes a stack down for each that is not there, which
        took more than half a millisecond of each step.
        """
        if self.kind == "gaudi":
            torch.manual_seed(number)
            return
        torch.default_generator.manual_seed(number)
        if self.kind in ("cuda", "rocm"):
            torch.cuda.manual_seed(number)

    def hand_over(self) -> None:
        """Give Gaudi, which collects operations until it is told, what has been collected; elsewhere nothing."""
        if self.kind == "gaudi":
            from habana_frameworks.torch import core

            core.mark_step()


def pick(asked: str, local_rank: int, local_world: int) -> Device:
    """Return the device of the process with *local_rank* among the *local_world* of its host.

    Raises:
        WorkloadError: there is no such device, or not as many as processes.
    """
    there = _there()
    kind = there if asked == "auto" else asked
    if kind == "cpu":
        return replace(_cpu(), memory=_cpu().memory // local_world)
    if kind != there:
        raise WorkloadError("device", f"got {asked}", f"PyTorch sees {there} here", "Write auto, or mend its driver")
    count = torch.hpu.device_count() if kind == "gaudi" else torch.cuda.device_count()
    if local_world > count:
        fix = f"Start {count} processes on this host"
        raise WorkloadError("device", f"got {local_world} processes", f"there are {count} devices, one for each", fix)
    return _gaudi() if kind == "gaudi" else _gpu(kind, local_rank)


def _there() -> str:
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
    of_amd, of_nvidia = getattr(properties, "gcnArchName", ""), f"{properties.major}.{properties.minor}"
    known = architecture_of(of_amd.partition(":")[0] if kind == "rocm" else of_nvidia)
    uuid = f"GPU-{properties.uuid}" if kind == "cuda" else ""
    return Device(kind, properties.name, torch.device("cuda", index), properties.total_memory, known, uuid)


def _gaudi() -> Device:
    """Return the one Gaudi that the launcher has made visible to this process."""
    name = torch.hpu.get_device_name()
    _, total = torch.hpu.memory.mem_get_info()
    return Device("gaudi", name, torch.device("hpu"), total, architecture_of("gaudi2" if "2" in name else name.lower()))
