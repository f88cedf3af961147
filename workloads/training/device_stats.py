"""What NVIDIA's library measures of the GPU that a process trains on: how busy, how full, how much power."""

from collections.abc import Callable
from typing import Any, Self

from workloads.catalogue.accelerators import peak_flops
from workloads.training.device import Device


class DeviceStats:
    """One GPU. What cannot be read is None, never zero."""

    def __init__(self, uuid: str) -> None:
        """
        Raises:
            pynvml.NVMLError: there is no such library, or no such GPU.
        """
        import pynvml

        self._library: Any = pynvml
        pynvml.nvmlInit()
        self._gpu = pynvml.nvmlDeviceGetHandleByUUID(uuid)

    @classmethod
    def of(cls, device: Device) -> Self | None:
        """Return those of *device*; None where NVIDIA's library does not know it."""
        if not device.uuid:
            return None
        import pynvml

        try:
            return cls(device.uuid)
        except pynvml.NVMLError:
            return None

    def read(self) -> dict[str, float | None]:
        """Return percent of the time in which it computed, bytes of its memory that are in use, and watts."""
        library = self._library
        return {
            "gpu_utilisation_percent": self._asked(lambda: library.nvmlDeviceGetUtilizationRates(self._gpu).gpu),
            "gpu_memory_bytes": self._asked(lambda: library.nvmlDeviceGetMemoryInfo(self._gpu).used),
            "gpu_power_watts": self._asked(lambda: library.nvmlDeviceGetPowerUsage(self._gpu) / 1000),
        }

    def peak_flops(self) -> float | None:
        """Return what it computes at best with numbers of 16 bits, by the catalogue; None where that is not known."""
        ids = self._asked(lambda: self._library.nvmlDeviceGetPciInfo(self._gpu).pciDeviceId)
        return None if ids is None else peak_flops(f"{int(ids) & 0xFFFF:04x}:{int(ids) >> 16:04x}")

    def _asked(self, question: Callable[[], float]) -> float | None:
        try:
            return question()
        except self._library.NVMLError:
            return None
