"""GPUs, as NVIDIA's management library (NVML) reports them.

Names, numbers and structures are those of nvml.h, from driver 535 to 580. If a driver lacks a call, its older form is
used. NVML can lock clocks to a range, but has no call that reports that range.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import time
from ctypes import byref, c_char, c_uint, c_ulong, c_ulonglong, c_void_p
from typing import Any, Callable

from rackwright.facts.probe.isolate import isolate
from rackwright.facts.probe.observe import ReadError, attempt, listing, read, unwrap
from rackwright.facts.probe.output import write_facts

LIBRARY = "libnvidia-ml.so.1"
NVML_SECONDS = 60
"""Time limit for a driver without persistence to start all GPUs."""
DROP_CAPABILITY, NO_NEW_PRIVILEGES = 24, 38
"""Operations of prctl(): PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS."""
MODULES, DEVICES = 16, 27
"""Capabilities CAP_SYS_MODULE and CAP_MKNOD."""
ASSIGNMENTS = "/etc/rackwright/gpus"
KERNEL_LOG = "/dev/kmsg"
RECORD_BYTES = 8 << 10
"""The longest record of the kernel log. Source: CONSOLE_EXT_LOG_MAX in linux/printk.h."""
XIDS = 64
"""Maximum number of Xid errors in the facts, the newest."""

NOT_SUPPORTED, INVALID_ARGUMENT, NOT_FOUND, INSUFFICIENT_SIZE = 3, 2, 6, 7
CONDITIONS = {15: "lost", 16: "reset required"}
"""Conditions that any call may report: NVML_ERROR_GPU_IS_LOST and NVML_ERROR_RESET_REQUIRED."""
UNCORRECTED, VOLATILE, CORE, GRAPHICS = 1, 0, 0, 0
TARGET_MIN, TARGET, TARGET_MAX = 4, 5, 6
"""Thresholds of the temperature that a board regulates to: NVML_TEMPERATURE_THRESHOLD_ACOUSTIC_* in nvml.h."""
PROFILES = 0x12
"""Number of GPU instance profiles."""
TEXT_BYTES = 96
"""Size of the largest text buffer in nvml.h."""
NOT_AVAILABLE = (1 << 64) - 1


class Pci(ctypes.Structure):
    _fields_ = (
        ("bus_id_legacy", c_char * 16), ("domain", c_uint), ("bus", c_uint), ("device", c_uint),
        ("id", c_uint), ("subsystem", c_uint), ("bus_id", c_char * 32),
    )  # fmt: skip


class Memory(ctypes.Structure):
    _fields_ = (("total", c_ulonglong), ("free", c_ulonglong), ("used", c_ulonglong))


class Memory2(ctypes.Structure):
    """Memory of a GPU, with the driver's own reserve counted separately."""

    _fields_ = (("version", c_uint), ("total", c_ulonglong), ("reserved", c_ulonglong), *Memory._fields_[1:])


class Utilisation(ctypes.Structure):
    _fields_ = (("gpu", c_uint), ("memory", c_uint))


class Process(ctypes.Structure):
    _fields_ = (("pid", c_uint), ("memory", c_ulonglong), ("gpu_instance", c_uint), ("compute_instance", c_uint))


class Profile2(ctypes.Structure):
    _fields_ = (
        ("version", c_uint), ("id", c_uint), ("p2p", c_uint), ("slices", c_uint), ("instances", c_uint),
        ("counts", c_uint * 6), ("memory_mb", c_ulonglong), ("name", c_char * TEXT_BYTES),
    )  # fmt: skip


class Instance(ctypes.Structure):
    _fields_ = (("device", c_void_p), ("id", c_uint), ("profile", c_uint), ("start", c_uint), ("size", c_uint))


class NvmlError(ReadError):
    """An NVML call returned an error."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class NvmlCallMissing(ReadError):
    """The NVML of the driver lacks a call."""


class Nvml:
    """The initialised library."""

    def __init__(self) -> None:
        self.library = ctypes.CDLL(LIBRARY)
        self.library.nvmlErrorString.restype = ctypes.c_char_p
        self.refusals: set[int] = set()
        """Error codes that calls returned so far."""
        self.call("nvmlInit_v2")

    def call(self, name: str, *arguments: Any) -> None:
        if not hasattr(self.library, name):
            raise NvmlCallMissing(f"this driver's NVML has no {name}")
        status = getattr(self.library, name)(*arguments)
        if status:
            self.refusals.add(status)
            raise NvmlError(status, f"{name}: {self.library.nvmlErrorString(status).decode()}")

    def number(self, name: str, *arguments: Any) -> int:
        value = c_uint()
        self.call(name, *arguments, byref(value))
        return value.value

    def pair(self, name: str, device: c_void_p) -> tuple[int, int]:
        first, second = c_uint(), c_uint()
        self.call(name, device, byref(first), byref(second))
        return first.value, second.value

    def text(self, name: str, *arguments: Any) -> str:
        buffer = ctypes.create_string_buffer(TEXT_BYTES)
        self.call(name, *arguments, buffer, c_uint(TEXT_BYTES))
        return buffer.value.decode(errors="replace")

    def structure(self, name: str, kind: Any, *arguments: Any) -> Any:
        """Return the structure of type *kind* that a call fills; a structure with a version needs it set before."""
        value = kind()
        if hasattr(value, "version"):
            value.version = ctypes.sizeof(kind) | 2 << 24
        self.call(name, *arguments, byref(value))
        return value


def main(job: dict[str, Any]) -> None:
    assigned = {"gpu_assignments": attempt(assignments, "")}
    write_facts({"format": job["format"], "taken_at": time.time(), **assigned, **gpus("")})


def gpus(root: str) -> dict[str, Any]:
    answer = attempt(read_nvml)
    return {
        "gpu_driver": attempt(lambda: unwrap(answer)["driver"]),
        "gpus": attempt(lambda: unwrap(answer)["gpus"]),
        "xids": attempt(read_xids, root),
    }


def assignments(root: str) -> dict[str, Any]:
    """Return the GPUs of each run and server, as rackwright noted them."""
    folder = root + ASSIGNMENTS
    return {name[: -len(".json")]: attempt(assignment, f"{folder}/{name}") for name in listing(folder, "*.json")}


def assignment(path: str) -> dict[str, Any]:
    value = json.loads(read(path))
    if not isinstance(value, dict):
        raise ReadError("not a JSON object")
    return value


def read_nvml() -> dict[str, Any]:
    """Return the driver and all GPUs, read in an isolated process, which a faulty driver may block or crash.

    Raises:
        ReadError: there is no answer; says why.
    """
    answer: dict[str, Any] = unwrap(isolate("NVML", observe_without_side_effects, seconds=NVML_SECONDS, memory=0))
    return answer


def observe_without_side_effects() -> dict[str, Any]:
    forbid_side_effects()
    return observe()


def forbid_side_effects() -> None:
    """Forbid child processes to load modules or create devices, which NVML's helper nvidia-modprobe would do."""
    prctl = ctypes.CDLL(None).prctl
    nothing = (c_ulong(0),) * 3
    for capability in (MODULES, DEVICES):
        prctl(DROP_CAPABILITY, c_ulong(capability), *nothing)
    # for other users than root, whose calls above fail: the helper is setuid
    prctl(NO_NEW_PRIVILEGES, c_ulong(1), *nothing)


def observe() -> dict[str, Any]:
    library = Nvml()
    return {
        "driver": {
            "version": attempt(library.text, "nvmlSystemGetDriverVersion"),
            "nvml_version": attempt(library.text, "nvmlSystemGetNVMLVersion"),
            "library": attempt(loaded_library),
        },
        "gpus": [gpu(library, index) for index in range(library.number("nvmlDeviceGetCount_v2"))],
    }


def loaded_library() -> str:
    """Return the path of the library file that is loaded."""
    with open("/proc/self/maps", encoding="utf-8") as maps:
        return next(line.split(None, 5)[5].rstrip("\n") for line in maps if "/libnvidia-ml" in line)


def gpu(library: Nvml, index: int) -> dict[str, Any]:
    library.refusals.clear()
    handle = attempt(device, library, index)
    values = {name: attempt(run_query, query, library, handle) for name, query in QUERIES.items()}
    return {"index": index, **values, "condition": attempt(condition, library, handle)}


def device(library: Nvml, index: int) -> c_void_p:
    handle = c_void_p()
    library.call("nvmlDeviceGetHandleByIndex_v2", c_uint(index), byref(handle))
    return handle


def run_query(query: Callable[[Nvml, c_void_p], Any], library: Nvml, handle: Any) -> Any:
    """Return the result of *query*; None if the board does not support it."""
    try:
        return query(library, unwrap(handle))
    except NvmlError as error:
        if error.status == NOT_SUPPORTED:
            return None
        raise


def condition(library: Nvml, handle: Any) -> str:
    for status, word in CONDITIONS.items():
        if status in library.refusals:
            return word
    unwrap(handle)
    return "working"


def pci(library: Nvml, handle: c_void_p) -> Pci:
    info: Pci = library.structure("nvmlDeviceGetPciInfo_v3", Pci, handle)
    return info


def pci_address(library: Nvml, handle: c_void_p) -> str:
    info = pci(library, handle)
    return f"{info.domain:04x}:{info.bus:02x}:{info.device:02x}.0"


def pci_id(library: Nvml, handle: c_void_p) -> str:
    ids = pci(library, handle).id
    return f"{ids & 0xFFFF:04x}:{ids >> 16:04x}"


def memory(library: Nvml, handle: c_void_p) -> Any:
    try:
        return library.structure("nvmlDeviceGetMemoryInfo_v2", Memory2, handle)
    except NvmlCallMissing:
        return library.structure("nvmlDeviceGetMemoryInfo", Memory, handle)


def utilisation(library: Nvml, handle: c_void_p) -> int:
    return int(library.structure("nvmlDeviceGetUtilizationRates", Utilisation, handle).gpu)


def uncorrected_errors(library: Nvml, handle: c_void_p) -> int:
    errors = c_ulonglong()
    library.call("nvmlDeviceGetTotalEccErrors", handle, UNCORRECTED, VOLATILE, byref(errors))
    return errors.value


def instances(library: Nvml, handle: c_void_p) -> list[dict[str, Any]]:
    """Return the GPU instances, which NVML reports to root only; empty while MIG is off."""
    if not library.pair("nvmlDeviceGetMigMode", handle)[0]:
        return []
    rows = []
    for number in range(PROFILES):
        try:
            profile = library.structure("nvmlDeviceGetGpuInstanceProfileInfoV", Profile2, handle, c_uint(number))
        except NvmlError as error:
            if error.status in (NOT_SUPPORTED, INVALID_ARGUMENT):  # the board or the driver has no such profile
                continue
            raise
        handles, count = (c_void_p * max(1, profile.instances))(), c_uint()
        library.call("nvmlDeviceGetGpuInstances", handle, profile.id, handles, byref(count))
        for instance in handles[: count.value]:
            info = library.structure("nvmlGpuInstanceGetInfo", Instance, c_void_p(instance))
            name = profile.name.decode().replace("MIG ", "", 1)
            rows.append({"id": info.id, "profile": name, "start": info.start, "size": info.size})
    return sorted(rows, key=lambda row: int(row["start"]))


def processes(library: Nvml, handle: c_void_p) -> list[dict[str, Any]]:
    """Return the processes that compute on a GPU.

    The older of two equal calls is used, because drivers 535.43 to 535.86 have another newer one.
    """
    name = "nvmlDeviceGetComputeRunningProcesses_v2"
    if not hasattr(library.library, name):
        name = "nvmlDeviceGetComputeRunningProcesses_v3"
    room = 64
    while True:
        table, count = (Process * room)(), c_uint(room)
        try:
            library.call(name, handle, byref(count), table)
            break
        except NvmlError as error:
            if error.status != INSUFFICIENT_SIZE:
                raise
            room = max(count.value, room) * 2  # more processes may start between two calls
    return [
        {
            "pid": process.pid,
            "name": attempt(process_name, library, process.pid),
            "memory_bytes": None if process.memory == NOT_AVAILABLE else process.memory,
        }
        for process in table[: count.value]
    ]


def process_name(library: Nvml, pid: int) -> str | None:
    try:
        return library.text("nvmlSystemGetProcessName", c_uint(pid))
    except NvmlError as error:
        if error.status == NOT_FOUND:  # the process has ended, or is in another namespace
            return None
        raise


def threshold(number: int) -> Callable[[Nvml, c_void_p], int]:
    return lambda library, handle: library.number("nvmlDeviceGetTemperatureThreshold", handle, number)


def watts(name: str) -> Callable[[Nvml, c_void_p], float]:
    return lambda library, handle: library.number(name, handle) / 1000


def constraint(index: int) -> Callable[[Nvml, c_void_p], float]:
    return lambda library, handle: library.pair("nvmlDeviceGetPowerManagementLimitConstraints", handle)[index] / 1000


def mode(name: str, index: int) -> Callable[[Nvml, c_void_p], bool]:
    return lambda library, handle: bool(library.pair(name, handle)[index])


QUERIES: dict[str, Callable[[Nvml, c_void_p], Any]] = {
    "uuid": lambda library, handle: library.text("nvmlDeviceGetUUID", handle),
    "name": lambda library, handle: library.text("nvmlDeviceGetName", handle),
    "serial": lambda library, handle: library.text("nvmlDeviceGetSerial", handle),
    "pci_address": pci_address,
    "pci_id": pci_id,
    "memory_bytes": lambda library, handle: memory(library, handle).total,
    "memory_used_bytes": lambda library, handle: memory(library, handle).used,
    "utilisation_percent": utilisation,
    "temperature_celsius": lambda library, handle: library.number("nvmlDeviceGetTemperature", handle, CORE),
    "temperature_target_celsius": threshold(TARGET),
    "temperature_target_min_celsius": threshold(TARGET_MIN),
    "temperature_target_max_celsius": threshold(TARGET_MAX),
    "power_watts": watts("nvmlDeviceGetPowerUsage"),
    "power_limit_watts": watts("nvmlDeviceGetPowerManagementLimit"),
    "power_limit_default_watts": watts("nvmlDeviceGetPowerManagementDefaultLimit"),
    "power_limit_min_watts": constraint(0),
    "power_limit_max_watts": constraint(1),
    "graphics_clock_mhz": lambda library, handle: library.number("nvmlDeviceGetClockInfo", handle, GRAPHICS),
    "persistence": lambda library, handle: bool(library.number("nvmlDeviceGetPersistenceMode", handle)),
    "ecc": mode("nvmlDeviceGetEccMode", 0),
    "ecc_pending": mode("nvmlDeviceGetEccMode", 1),
    "uncorrected_errors": uncorrected_errors,
    "mig": mode("nvmlDeviceGetMigMode", 0),
    "mig_pending": mode("nvmlDeviceGetMigMode", 1),
    "mig_instances": instances,
    "processes": processes,
}

XID = re.compile(r"NVRM: Xid \((?:PCI:)?([0-9a-fA-F]+:[0-9a-fA-F]+:[0-9a-fA-F]+)[^)]*\): (\d+)(?:, *)?(.*)")
"""Source: NVIDIA's page on Xid errors: ``NVRM: Xid (PCI:0000:3b:00): 79, pid=1234, GPU has fallen off the bus.``"""


def read_xids(root: str) -> list[dict[str, Any]]:
    """Return the latest errors that the driver wrote to the kernel log since the kernel started, the newest last."""
    rows, boot_time = [], time.time() - time.monotonic()
    for record in read_kernel_log(root + KERNEL_LOG):
        prefix, _, message = record.partition(";")
        match = XID.match(message)
        if match:
            address, code, text = match.groups()
            happened_at = boot_time + int(prefix.split(",")[2]) / 1e6  # microseconds since the kernel started
            rows.append({"pci": address.lower(), "code": int(code), "text": text, "at": happened_at})
    return rows[-XIDS:]


def read_kernel_log(path: str) -> list[str]:
    """Return the records that are still in the kernel log, without waiting for new ones."""
    log, parts = os.open(path, os.O_RDONLY | os.O_NONBLOCK), []
    try:
        while True:
            try:
                part = os.read(log, RECORD_BYTES)
            except BrokenPipeError:  # records were overwritten: the next read returns the oldest remaining one
                continue
            except BlockingIOError:
                break
            if not part:
                break
            parts.append(part)
    finally:
        os.close(log)
    return b"".join(parts).decode(errors="replace").splitlines()
