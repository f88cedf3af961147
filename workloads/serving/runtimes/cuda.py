"""The few calls of NVIDIA's driver that an engine needs, without a package. Source: cuda.h of CUDA 13.

Unverified on hardware.
"""

import ctypes
from typing import Any

import numpy as np

from workloads.errors import WorkloadError

MAJOR, MINOR = 75, 76
"""CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and …_MINOR."""
NON_BLOCKING = 1
"""CU_STREAM_NON_BLOCKING: it does not wait for the stream that all share."""


class Gpu:
    """The first GPU that this process sees."""

    def __init__(self) -> None:
        """
        Raises:
            WorkloadError: there is none, or no driver.
        """
        try:
            self._library = ctypes.CDLL("libcuda.so.1")
            self._call("cuInit", 0)
            device = ctypes.c_int()
            self._call("cuDeviceGet", ctypes.byref(device), 0)
        except (OSError, RuntimeError) as error:
            want, fix = "an engine is built and run on a GPU of NVIDIA's", "Look at `nvidia-smi` on this computer"
            raise WorkloadError("GPU", f"got {error}", want, fix) from None
        self._device, self._context = device, ctypes.c_void_p()

        def told(attribute: int) -> int:
            value = ctypes.c_int()
            self._call("cuDeviceGetAttribute", ctypes.byref(value), attribute, device)
            return value.value

        self.capability = f"{told(MAJOR)}.{told(MINOR)}"
        """As CUDA has it: ``8.6``."""

    def begin(self) -> None:
        """Let the calling thread use it; every thread has to say so."""
        if not self._context:
            self._call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), self._device)
        self._call("cuCtxSetCurrent", self._context)

    def stream(self) -> int:
        """Return a stream, on which one thing is done after the other."""
        stream = ctypes.c_void_p()
        self._call("cuStreamCreate", ctypes.byref(stream), NON_BLOCKING)
        return stream.value or 0

    def wait(self, stream: int) -> None:
        """Return when all that was put on *stream* is done."""
        self._call("cuStreamSynchronize", ctypes.c_void_p(stream))

    def memory(self, size: int) -> int:
        """Return the address of *size* bytes, which stay taken."""
        address = ctypes.c_uint64()
        self._call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(size))
        return address.value

    def put(self, array: np.ndarray, address: int, stream: int) -> None:
        """Let *stream* copy *array*, which has to stay until that is done, to *address*."""
        self._call("cuMemcpyHtoDAsync_v2", ctypes.c_uint64(address), *_memory(array), ctypes.c_void_p(stream))

    def get(self, address: int, array: np.ndarray, stream: int) -> None:
        """Let *stream* fill *array*, which has to stay until that is done, from *address*."""
        pointer, size = _memory(array)
        self._call("cuMemcpyDtoHAsync_v2", pointer, ctypes.c_uint64(address), size, ctypes.c_void_p(stream))

    def _call(self, name: str, *arguments: Any) -> None:
        if status := getattr(self._library, name)(*arguments):
            raise RuntimeError(f"{name} ended with {status}")


def _memory(array: np.ndarray) -> tuple[ctypes.c_void_p, ctypes.c_size_t]:
    return ctypes.c_void_p(array.ctypes.data), ctypes.c_size_t(array.nbytes)
