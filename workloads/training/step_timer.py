"""The mean time of steps between two reports."""

import time

from workloads.training.device import Device


class StepTimer:
    """Measures when the device has finished its work."""

    def __init__(self, device: Device, step: int) -> None:
        self._device, self._step = device, step
        device.synchronize()
        self._began = time.perf_counter()

    def seconds_per_step(self, step: int) -> float:
        self._device.synchronize()
        now = time.perf_counter()
        seconds = (now - self._began) / max(1, step - self._step)
        self._began, self._step = now, step
        return seconds
