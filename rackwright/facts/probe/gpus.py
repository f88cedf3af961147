"""GPUs, as NVIDIA's management library (NVML) tells of them.

Names, numbers and structures are those of nvml.h, from driver 535 to 580; what one of these lacks is asked in its older
way. NVML sets the range that clocks are locked to, but has no call that tells it.
"""

from __future__ import annotations

import ctypes
import os
import re
import time
from ctypes import byref, c_char, c_uint, c_ulong, c_ulonglong, c_void_p
from typing import Any, Callable

from rackwright.facts.probe.apart import apart
from rackwright.facts.probe.observe import ReadError, attempt, known
from rackwright.facts.probe.output import tell

LIBRARY = "libnvidia-ml.so.1"
NVML_SECONDS = 60
"""What a driver that keeps nothing in memory may take to start all GPUs."""
DROP_CAPABILITY, NO_NEW_PRIVILEGES = 24, 38
"""What prctl() can do: PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS."""
MODULES, DEVICES = 16, 27
"""CAP_SYS_MODULE, CAP_MKNOD."""
KERNEL_LOG = "/dev/kmsg"
RECORD_BYTES = 8 << 10
"""The longest record of the kernel log. Source: CONSOLE_EXT_LOG_MAX in linux/printk.h."""
XIDS = 64
"""How many of the newest are told."""

NOT_SUPPORTED, INVALID_ARGUMENT, NOT_FOUND, INSUFFICIENT_SIZE = 3, 2, 6, 7
CONDITIONS = {15: "lost", 16: "reset required"}
"""NVML_ERROR_GPU_IS_LOST and NVML_ERROR_RESET_REQUIRED, whatever was asked."""
UNCORRECTED, VOLATILE, CORE, GRAPHICS = 1, 0, 0, 0
TARGET_MIN, TARGET, TARGET_MAX = 4, 5, 6
"""The temperature that a board is kept at, in nvml.h NVML_TEMPERATURE_THRESHOLD_ACOUSTIC_*."""
PROFILES = 0x12
"""How many sorts of GPU instances there are."""
TEXT_BYTES = 96
"""The longest buffer that nvml.h asks for."""
NOT_AVAILABLE = (1 << 64) - 1


class Pci(ctypes.Structure):
    _fields_ = (
        ("bus_id_legacy", c_char * 16), ("domain", c_uint), ("bus", c_uint), ("device", c_uint),
        ("id", c_uint), ("subsystem", c_uint), ("bus_id", c_char * 32),
    )  # fmt: skip


class Memory(ctypes.Structure):
    _fields_ = (("total", c_ulonglong), ("free", c_ulonglong), ("used", c_ulonglong))


class Memory2(ctypes.Structure):
    """Counts what the driver keeps for itself apart from what is used."""

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


class Refused(ReadError):
    """NVML answered a call with an error."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Missing(ReadError):
    """This driver's NVML does not have a call."""


class Nvml:
    """The library, initialised."""

    def __init__(self) -> None:
        self.library = ctypes.CDLL(LIBRARY)
        self.library.nvmlErrorString.restype = ctypes.c_char_p
        self.refusals: set[int] = set()
        """What it answered so far, beside success."""
        self.call("nvmlInit_v2")

    def call(self, name: str, *arguments: Any) -> None:
        if not hasattr(self.library, name):
            raise Missing(f"this driver's NVML has no {name}")
        status = getattr(self.library, name)(*arguments)
        if status:
            self.refusals.add(status)
            raise Refused(status, f"{name}: {self.library.nvmlErrorString(status).decode()}")

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

    def filled(self, name: str, shape: Any, *arguments: Any) -> Any:
        """Return the structure that a call fills; one that has a version wants it filled in before."""
        value = shape()
        if hasattr(value, "version"):
            value.version = ctypes.sizeof(shape) | 2 << 24
        self.call(name, *arguments, byref(value))
        return value


def main(job: dict[str, Any]) -> None:
    tell({"format": job["format"], "taken_at": time.time(), **gpus("")})


def gpus(root: str) -> dict[str, Any]:
    told = attempt(nvml)
    return {
        "gpu_driver": attempt(lambda: known(told)["driver"]),
        "gpus": attempt(lambda: known(told)["gpus"]),
        "xids": attempt(xids, root),
    }


def nvml() -> dict[str, Any]:
    """Return the driver and all GPUs, from a process of its own: a wedged driver may never answer, or crash it.

    Raises:
        ReadError: there is no answer; says why.
    """
    found: dict[str, Any] = known(apart("NVML", look_only, seconds=NVML_SECONDS, memory=0))
    return found


def look_only() -> dict[str, Any]:
    change_nothing()
    return look()


def change_nothing() -> None:
    """Let nothing that is started from here load modules or make devices, as NVML's helper nvidia-modprobe would."""
    prctl = ctypes.CDLL(None).prctl
    nothing = (c_ulong(0),) * 3
    for capability in (MODULES, DEVICES):
        prctl(DROP_CAPABILITY, c_ulong(capability), *nothing)
    prctl(NO_NEW_PRIVILEGES, c_ulong(1), *nothing)  # who is not root may not do the above, and that helper is setuid


def look() -> dict[str, Any]:
    library = Nvml()
    return {
        "driver": {
            "version": attempt(library.text, "nvmlSystemGetDriverVersion"),
            "nvml_version": attempt(library.text, "nvmlSystemGetNVMLVersion"),
            "library": attempt(loaded),
        },
        "gpus": [gpu(library, index) for index in range(library.number("nvmlDeviceGetCount_v2"))],
    }


def loaded() -> str:
    """Return the file that answers under the library's name."""
    with open("/proc/self/maps", encoding="utf-8") as maps:
        return next(line.split(None, 5)[5].rstrip("\n") for line in maps if "/libnvidia-ml" in line)


def gpu(library: Nvml, index: int) -> dict[str, Any]:
    library.refusals.clear()
    handle = attempt(device, library, index)
    found = {name: attempt(answer, question, library, handle) for name, question in QUESTIONS.items()}
    return {"index": index, **found, "condition": attempt(condition, library, handle)}


def device(library: Nvml, index: int) -> c_void_p:
    handle = c_void_p()
    library.call("nvmlDeviceGetHandleByIndex_v2", c_uint(index), byref(handle))
    return handle


def answer(question: Callable[[Nvml, c_void_p], Any], library: Nvml, handle: Any) -> Any:
    """Return NVML's answer; None where the board has no such thing."""
    try:
        return question(library, known(handle))
    except Refused as error:
        if error.status == NOT_SUPPORTED:
            return None
        raise


def condition(library: Nvml, handle: Any) -> str:
    for status, word in CONDITIONS.items():
        if status in library.refusals:
            return word
    known(handle)
    return "working"


def pci(library: Nvml, handle: c_void_p) -> Pci:
    found: Pci = library.filled("nvmlDeviceGetPciInfo_v3", Pci, handle)
    return found


def pci_address(library: Nvml, handle: c_void_p) -> str:
    at = pci(library, handle)
    return f"{at.domain:04x}:{at.bus:02x}:{at.device:02x}.0"


def pci_id(library: Nvml, handle: c_void_p) -> str:
    both = pci(library, handle).id
    return f"{both & 0xFFFF:04x}:{both >> 16:04x}"


def memory(library: Nvml, handle: c_void_p) -> Any:
    try:
        return library.filled("nvmlDeviceGetMemoryInfo_v2", Memory2, handle)
    except Missing:
        return library.filled("nvmlDeviceGetMemoryInfo", Memory, handle)


def utilisation(library: Nvml, handle: c_void_p) -> int:
    return int(library.filled("nvmlDeviceGetUtilizationRates", Utilisation, handle).gpu)


def uncorrected(library: Nvml, handle: c_void_p) -> int:
    errors = c_ulonglong()
    library.call("nvmlDeviceGetTotalEccErrors", handle, UNCORRECTED, VOLATILE, byref(errors))
    return errors.value


def instances(library: Nvml, handle: c_void_p) -> list[dict[str, Any]]:
    """Return the GPU instances; NVML tells them to root only, and none where MIG is off."""
    if not library.pair("nvmlDeviceGetMigMode", handle)[0]:
        return []
    found = []
    for number in range(PROFILES):
        try:
            profile = library.filled("nvmlDeviceGetGpuInstanceProfileInfoV", Profile2, handle, c_uint(number))
        except Refused as error:
            if error.status in (NOT_SUPPORTED, INVALID_ARGUMENT):  # the board, or this driver, knows no such profile
                continue
            raise
        made, count = (c_void_p * max(1, profile.instances))(), c_uint()
        library.call("nvmlDeviceGetGpuInstances", handle, profile.id, made, byref(count))
        for instance in made[: count.value]:
            told = library.filled("nvmlGpuInstanceGetInfo", Instance, c_void_p(instance))
            name = profile.name.decode().replace("MIG ", "", 1)
            found.append({"id": told.id, "profile": name, "start": told.start, "size": told.size})
    return sorted(found, key=lambda instance: int(instance["start"]))


def processes(library: Nvml, handle: c_void_p) -> list[dict[str, Any]]:
    """Return who computes. Of two calls that are the same the older one: drivers 535.43 to 535.86 changed the newer."""
    name = "nvmlDeviceGetComputeRunningProcesses_v2"
    if not hasattr(library.library, name):
        name = "nvmlDeviceGetComputeRunningProcesses_v3"
    room = 64
    while True:
        table, count = (Process * room)(), c_uint(room)
        try:
            library.call(name, handle, byref(count), table)
            break
        except Refused as error:
            if error.status != INSUFFICIENT_SIZE:
                raise
            room = max(count.value, room) * 2  # some may start meanwhile
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
    except Refused as error:
        if error.status == NOT_FOUND:  # it has ended, or lives in another namespace
            return None
        raise


def threshold(number: int) -> Callable[[Nvml, c_void_p], int]:
    return lambda library, handle: library.number("nvmlDeviceGetTemperatureThreshold", handle, number)


def watts(name: str) -> Callable[[Nvml, c_void_p], float]:
    return lambda library, handle: library.number(name, handle) / 1000


def constraint(place: int) -> Callable[[Nvml, c_void_p], float]:
    return lambda library, handle: library.pair("nvmlDeviceGetPowerManagementLimitConstraints", handle)[place] / 1000


def mode(name: str, place: int) -> Callable[[Nvml, c_void_p], bool]:
    return lambda library, handle: bool(library.pair(name, handle)[place])


QUESTIONS: dict[str, Callable[[Nvml, c_void_p], Any]] = {
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
    "uncorrected_errors": uncorrected,
    "mig": mode("nvmlDeviceGetMigMode", 0),
    "mig_pending": mode("nvmlDeviceGetMigMode", 1),
    "mig_instances": instances,
    "processes": processes,
}

XID = re.compile(r"NVRM: Xid \((?:PCI:)?([0-9a-fA-F]+:[0-9a-fA-F]+:[0-9a-fA-F]+)[^)]*\): (\d+)(?:, *)?(.*)")
"""Source: NVIDIA's page on Xid errors: ``NVRM: Xid (PCI:0000:3b:00): 79, pid=1234, GPU has fallen off the bus.``"""


def xids(root: str) -> list[dict[str, Any]]:
    """Return the newest errors that the driver wrote to the kernel's log since it was started, the newest last."""
    found, started = [], time.time() - time.monotonic()
    for record in kernel_log(root + KERNEL_LOG):
        told, _, message = record.partition(";")
        match = XID.match(message)
        if match:
            address, code, text = match.groups()
            at = started + int(told.split(",")[2]) / 1e6  # it counts microseconds since the kernel was started
            found.append({"pci": address.lower(), "code": int(code), "text": text, "at": at})
    return found[-XIDS:]


def kernel_log(path: str) -> list[str]:
    """Return the records that the kernel still has, and wait for none."""
    log, parts = os.open(path, os.O_RDONLY | os.O_NONBLOCK), []
    try:
        while True:
            try:
                part = os.read(log, RECORD_BYTES)
            except BrokenPipeError:  # records were overwritten meanwhile: it goes on with the oldest that is left
                continue
            except BlockingIOError:
                break
            if not part:
                break
            parts.append(part)
    finally:
        os.close(log)
    return b"".join(parts).decode(errors="replace").splitlines()
