"""The probe and the statistics of a training against NVIDIA's library, and the library against its own binding."""

import time
from dataclasses import replace
from typing import Any

from tests.gpu.check import CheckFailed, Recorder, Target, check, need

MATRIX, TINY_MATRIX = 8192, 64
"""Side of the matrices whose product measures a GPU."""
PRODUCTS = 50


@check("probe", "the probe's facts of a GPU against nvidia-ml-py", 30, packages=("pynvml",))
def probe(recorder: Recorder, target: Target) -> None:
    """Compare the facts that change slowly; the others only have to be there."""
    import pynvml

    from rackwright.facts.probe import gpus

    began = time.perf_counter()
    facts = gpus.read_nvml()
    recorder.record(probe_ms=1000 * (time.perf_counter() - began), gpus=len(facts["gpus"]))
    pynvml.nvmlInit()
    need(len(facts["gpus"]) == pynvml.nvmlDeviceGetCount(), "the probe finds another number of GPUs than pynvml")
    recorder.record(driver=_value(facts["driver"]["version"]))
    wrong = []
    for number, gpu in enumerate(facts["gpus"]):
        expected = _expected(pynvml, pynvml.nvmlDeviceGetHandleByIndex(number))
        wrong += [
            f"GPU {number}: {name} is {_value(gpu[name])}, pynvml has {value}"
            for name, value in expected.items()
            if _value(gpu[name]) != value
        ]
    errors = [name for name, value in facts["gpus"][0].items() if isinstance(value, dict) and "error" in value]
    recorder.record(facts=len(facts["gpus"][0]), unknown=", ".join(errors) or "none")
    need(not wrong, "; ".join(wrong))


def _expected(pynvml: Any, handle: Any) -> dict[str, Any]:
    """Return the facts of a GPU by pynvml; facts that the board does not have are left out."""
    bus = pynvml.nvmlDeviceGetPciInfo(handle)
    readers = {
        "uuid": lambda: pynvml.nvmlDeviceGetUUID(handle),
        "name": lambda: pynvml.nvmlDeviceGetName(handle),
        "pci_address": lambda: f"{bus.domain:04x}:{bus.bus:02x}:{bus.device:02x}.0",
        "pci_id": lambda: f"{bus.pciDeviceId & 0xFFFF:04x}:{bus.pciDeviceId >> 16:04x}",
        "memory_bytes": lambda: pynvml.nvmlDeviceGetMemoryInfo(handle).total,
        "power_limit_watts": lambda: pynvml.nvmlDeviceGetPowerManagementLimit(handle) / 1000,
        "power_limit_default_watts": lambda: pynvml.nvmlDeviceGetPowerManagementDefaultLimit(handle) / 1000,
        "persistence": lambda: bool(pynvml.nvmlDeviceGetPersistenceMode(handle)),
        "ecc": lambda: bool(pynvml.nvmlDeviceGetEccMode(handle)[0]),
        "mig": lambda: bool(pynvml.nvmlDeviceGetMigMode(handle)[0]),
    }
    values = {}
    for name, read in readers.items():
        try:
            values[name] = read()
        except pynvml.NVMLError:
            continue
    return values


def _value(fact: Any) -> Any:
    """Return a fact as the probe reports it: a value, or a mapping with the reason why there is none."""
    return fact.get("value", fact.get("error")) if isinstance(fact, dict) else fact


@check(
    "device",
    "what a training reads of its GPU, and the rate of bf16 products",
    45,
    packages=("torch", "pynvml", "psutil", "yaml"),
)
def library(recorder: Recorder, target: Target) -> None:
    import pynvml
    import torch

    from workloads.training.device import select_device
    from workloads.training.device_stats import DeviceStats
    from workloads.training.precision import choose

    device = select_device("auto" if target.kind == "cuda" else target.kind, 0, 1)
    precision = choose("auto", device.architecture, device.name)
    recorder.record(gpu=device.name, precision=precision.name, torch=str(torch.__version__))
    pynvml.nvmlInit()
    gpu = pynvml.nvmlDeviceGetHandleByIndex(0)
    if target.kind == "cpu":  # the library's first GPU, on which nothing computes
        device = replace(device, uuid=pynvml.nvmlDeviceGetUUID(gpu), memory=pynvml.nvmlDeviceGetMemoryInfo(gpu).total)
    stats = DeviceStats.for_device(device)
    if stats is None:
        raise CheckFailed(f"NVIDIA's library does not know the GPU {device.uuid} of PyTorch")
    dtype = torch.float32 if precision.name == "fp32" else precision.dtype
    side = TINY_MATRIX if target.tiny else MATRIX
    a, b = (torch.randn(side, side, device=device.torch, dtype=dtype) for _ in range(2))
    for _ in range(3):
        a @ b
    device.synchronize()
    began = time.perf_counter()
    for _ in range(PRODUCTS):
        a @ b
    during = stats.read()
    device.synchronize()
    rate = PRODUCTS * 2 * side**3 / (time.perf_counter() - began)
    peak = stats.peak_flops()
    recorder.record(product_tflops=rate / 1e12, power_watts=during["gpu_power_watts"])
    recorder.record(**({"of_the_catalogue_percent": 100 * rate / peak} if peak else {"catalogue": "has no peak rate"}))
    used = during["gpu_memory_bytes"]
    least = 2 * side * side * dtype.itemsize
    need(used is not None and used >= least, f"memory in use is {used}, and two matrices have {least} bytes")
    total = pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByUUID(device.uuid)).total
    recorder.record(memory_bytes=device.memory)
    need(abs(total - device.memory) < 0.1 * total, f"memory is {device.memory} for PyTorch, and {total} for NVML")
    need(not peak or rate < 1.05 * peak, f"{rate:.3g} operations a second are above the catalogue's peak of {peak:.3g}")
