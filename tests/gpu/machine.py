"""The machine of a run: its GPUs as the driver names them, its processor, and the versions of packages.

    python -m tests.gpu.machine

The command prints the GPUs as JSON. It is a process of its own, because a faulty driver may block or crash.
"""

import ctypes
import json
import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

DRIVER = "libcuda.so.1"
SECONDS = 60
"""Time limit for a driver without persistence to start its GPUs."""
NAME_BYTES = 96
CAPABILITY_MAJOR, CAPABILITY_MINOR = 75, 76
"""CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR of cuda.h."""
PACKAGES = ("torch", "transformers", "onnxruntime-gpu", "onnxruntime", "tensorrt", "tensorrt-rtx-cu13", "vllm")


def read_gpus() -> list[dict[str, Any]]:
    """Return name, compute capability and memory of each GPU; empty without a driver or a GPU."""
    try:
        cuda = ctypes.CDLL(DRIVER)
    except OSError:
        return []
    count = ctypes.c_int()
    if cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(count)):
        return []
    return [_describe(cuda, number) for number in range(count.value)]


def _describe(cuda: Any, number: int) -> dict[str, Any]:
    device, size, name = ctypes.c_int(), ctypes.c_size_t(), ctypes.create_string_buffer(NAME_BYTES)
    cuda.cuDeviceGet(ctypes.byref(device), number)
    cuda.cuDeviceGetName(name, NAME_BYTES, device)
    cuda.cuDeviceTotalMem_v2(ctypes.byref(size), device)

    def attribute(which: int) -> int:
        value = ctypes.c_int()
        cuda.cuDeviceGetAttribute(ctypes.byref(value), which, device)
        return value.value

    capability = f"{attribute(CAPABILITY_MAJOR)}.{attribute(CAPABILITY_MINOR)}"
    return {"name": name.value.decode(), "capability": capability, "memory_bytes": size.value}


def gpus(python: str = sys.executable) -> list[dict[str, Any]]:
    """Return the GPUs of this machine, read in a process of its own; empty if it crashes or hangs."""
    try:
        done = subprocess.run(
            [python, "-m", "tests.gpu.machine"], capture_output=True, text=True, timeout=SECONDS,
            cwd=Path(__file__).parents[2],
        )  # fmt: skip
        found: list[dict[str, Any]] = json.loads(done.stdout)
    except (subprocess.TimeoutExpired, ValueError):
        return []
    return found


def describe() -> dict[str, Any]:
    """Return the processor, and the versions of Python and of the packages that are installed."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {"processor": _processor(), "cores": os.cpu_count(), "python": platform.python_version(), **versions}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


if __name__ == "__main__":
    print(json.dumps(read_gpus()))
