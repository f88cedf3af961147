"""The calls of NVIDIA's driver that a TensorRT engine needs, without a package. Source: cuda.h of CUDA 13.

Unverified on hardware.
"""

import ctypes
from typing import Any

import numpy as np

from workloads.errors import Diagnostic, UserError

LIBRARY = "libcuda.so.1"
MAJOR, MINOR = 75, 76
"""CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and …_MINOR."""
NON_BLOCKING = 1
"""CU_STREAM_NON_BLOCKING: the stream does not wait for the default stream."""


class CudaGpu:
    """The first GPU that this process sees."""

    def __init__(self) -> None:
        """
        Raises:
            UserError: there is no GPU, or no driver.
        """
        try:
            self._library = ctypes.CDLL(LIBRARY)
            self._call("cuInit", 0)
            device = ctypes.c_int()
            self._call("cuDeviceGet", ctypes.byref(device), 0)
        except (OSError, RuntimeError) as error:
            expected, help = "an NVIDIA GPU with its driver", "Check `nvidia-smi` on this computer"
            raise UserError(Diagnostic("GPU", f"the engine has no GPU: {error}", expected, help)) from None
        self._device, self._context = device, ctypes.c_void_p()

        def attribute(number: int) -> int:
            value = ctypes.c_int()
            self._call("cuDeviceGetAttribute", ctypes.byref(value), number, device)
            return value.value

        self.capability = f"{attribute(MAJOR)}.{attribute(MINOR)}"
        """CUDA's compute capability, such as ``8.6``."""

    def make_current(self) -> None:
        """Make the GPU current for the calling thread; each thread that uses it has to call this."""
        if not self._context:
            self._call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), self._device)
        self._call("cuCtxSetCurrent", self._context)

    def stream(self) -> int:
        """Return a new stream, which runs its operations in order."""
        stream = ctypes.c_void_p()
        self._call("cuStreamCreate", ctypes.byref(stream), NON_BLOCKING)
        return stream.value or 0

    def wait(self, stream: int) -> None:
        """Return when all operations of *stream* are complete."""
        self._call("cuStreamSynchronize", ctypes.c_void_p(stream))

    def allocate(self, size: int) -> int:
        """Return the address of *size* bytes, which are never freed."""
        address = ctypes.c_uint64()
        self._call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(size))
        return address.value

    def put(self, array: np.ndarray, address: int, stream: int) -> None:
        """Copy *array* to *address* on *stream*; the array has to exist until the copy is complete."""
        self._call("cuMemcpyHtoDAsync_v2", ctypes.c_uint64(address), *_buffer(array), ctypes.c_void_p(stream))

    def get(self, address: int, array: np.ndarray, stream: int) -> None:
        """Copy from *address* into *array* on *stream*; the array has to exist until the copy is complete."""
        pointer, size = _buffer(array)
        self._call("cuMemcpyDtoHAsync_v2", pointer, ctypes.c_uint64(address), size, ctypes.c_void_p(stream))

    def _call(self, name: str, *arguments: Any) -> None:
        if status := getattr(self._library, name)(*arguments):
            raise RuntimeError(f"{name} ended with {status}")


def _buffer(array: np.ndarray) -> tuple[ctypes.c_void_p, ctypes.c_size_t]:
    return ctypes.c_void_p(array.ctypes.data), ctypes.c_size_t(array.nbytes)
