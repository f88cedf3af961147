"""Utilisation, memory use and power of the GPU that a process trains on, measured by NVIDIA's library."""

from collections.abc import Callable
from typing import Any, Self

from workloads.catalogue.accelerators import peak_flops
from workloads.training.device import Device


class DeviceStats:
    """The measurements of one GPU. A figure that cannot be read is None, never zero."""

    def __init__(self, uuid: str) -> None:
        """
        Raises:
            pynvml.NVMLError: The library or the GPU is missing.
        """
        import pynvml

        self._library: Any = pynvml
        pynvml.nvmlInit()
        self._gpu = pynvml.nvmlDeviceGetHandleByUUID(uuid)

    @classmethod
    def for_device(cls, device: Device) -> Self | None:
        """Return the measurements of *device*; None if NVIDIA's library does not know the device."""
        if not device.uuid:
            return None
        import pynvml

        try:
            return cls(device.uuid)
        except pynvml.NVMLError:
            return None

    def read(self) -> dict[str, float | None]:
        """Return the utilisation in percent, the used memory in bytes, and the power in watts."""
        library = self._library
        return {
            "gpu_utilisation_percent": self._query(lambda: library.nvmlDeviceGetUtilizationRates(self._gpu).gpu),
            "gpu_memory_bytes": self._query(lambda: library.nvmlDeviceGetMemoryInfo(self._gpu).used),
            "gpu_power_watts": self._query(lambda: library.nvmlDeviceGetPowerUsage(self._gpu) / 1000),
        }

    def peak_flops(self) -> float | None:
        """Return the catalogue's peak rate for 16-bit numbers; None if the catalogue has none."""
        ids = self._query(lambda: self._library.nvmlDeviceGetPciInfo(self._gpu).pciDeviceId)
        return None if ids is None else peak_flops(f"{int(ids) & 0xFFFF:04x}:{int(ids) >> 16:04x}")

    def _query(self, read: Callable[[], float]) -> float | None:
        try:
            return read()
        except self._library.NVMLError:
            return None
