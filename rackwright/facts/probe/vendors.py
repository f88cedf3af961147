"""What vendors' software says of itself in files, who has an accelerator open, and what bridges do with PCI packets."""

from __future__ import annotations

import os
import re
import struct
from glob import glob
from typing import Any

from rackwright.facts.probe.observe import ReadError, attempt, listing, read

READINGS = (
    # Jetson Linux Developer Guide; nvpmodel writes the mode that it was told
    ("jetson.release", "/etc/nv_tegra_release", r"^# R(\d+) \(release\), REVISION: ([\d.]+)"),
    ("jetson.power_mode", "/var/lib/nvpmodel/status", r"^pmode:0*(\d+)"),
    # ROCm documentation, Install ROCm Optiq: it has the build behind the release
    ("rocm.release", "/opt/rocm/.info/version", r"^(\d+(?:\.\d+)*)"),
    # CANN Software Installation Guide, default paths
    ("ascend.driver", "/usr/local/Ascend/driver/version.info", r"^Version=(\S+)"),
    ("ascend.firmware", "/usr/local/Ascend/firmware/version.info", r"^Version=(\S+)"),
    (
        "ascend.toolkit",
        "/usr/local/Ascend/ascend-toolkit/latest/*-linux/ascend_toolkit_install.info",
        r"^version=(\S+)",
    ),
)
"""Name, where it is said (a pattern: the first that is there), and what of it; groups are joined by dots."""
DEVICES = re.compile(r"/dev/(kfd|accel/accel\d+|hl\d+|davinci\d+)")
"""Accelerators of AMD, Intel (before and since Linux 6.2) and Huawei. NVIDIA's driver tells of its own."""
BRIDGE = "0x0604"
"""How the class of a bridge between PCI buses begins. Source: PCI Code and ID Assignment, 1.6."""
EXTENDED, ACS, CONTROL = 0x100, 0x0D, 6
"""Where extended capabilities begin, the id of Access Control Services, and where in it its control register is.
Source: include/uapi/linux/pci_regs.h."""


def readings(root: str) -> dict[str, Any]:
    """Return what is said by name; nothing for software that is not there."""
    places = ((name, sorted(glob(root + pattern)), what) for name, pattern, what in READINGS)
    return {name: attempt(reading, found[0], what) for name, found, what in places if found}


def reading(path: str, what: str) -> str:
    said = re.search(what, read(path), re.MULTILINE)
    if said is None:
        raise ReadError(f"{path} does not say it in the way that is known")
    return ".".join(said.groups())


def dkms(root: str) -> dict[str, dict[str, list[str]]]:
    """Return what DKMS has in its tree, by module and version: the kernels for which that was built."""
    top = f"{root}/var/lib/dkms"
    found: dict[str, dict[str, list[str]]] = {}
    for name in listing(top):
        for version in listing(f"{top}/{name}") if os.path.isdir(f"{top}/{name}") else ():
            place = f"{top}/{name}/{version}"
            if os.path.isdir(place) and not os.path.islink(place) and version != "original_module":
                built = glob(f"{place}/*/*/module")  # by kernel and machine
                found.setdefault(name, {})[version] = sorted({path.split("/")[-3] for path in built})
    return found


def accelerator_users(root: str) -> list[dict[str, Any]]:
    """Return who has an accelerator of another vendor than NVIDIA open, once for each process and device."""
    found = {
        (int(pid), device)
        for pid in listing(f"{root}/proc")
        if pid.isdecimal()
        for device in opened(f"{root}/proc/{pid}/fd")
    }
    return [
        {"pid": pid, "name": attempt(read, f"{root}/proc/{pid}/comm"), "device": device}
        for pid, device in sorted(found)
    ]


def opened(folder: str) -> set[str]:
    """Return the accelerators among what a process has open; one that ended meanwhile has nothing open."""
    found = set()
    for number in listing(folder):
        try:
            target = os.readlink(f"{folder}/{number}")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if DEVICES.fullmatch(target):
            found.add(target)
    return found


def redirecting(root: str) -> list[str]:
    """Return the bridges that send packets between PCI devices through the root complex, by their addresses."""
    top = f"{root}/sys/bus/pci/devices"
    return [
        address
        for address in listing(top)
        if read(f"{top}/{address}/class").startswith(BRIDGE) and control(f"{top}/{address}/config")
    ]


def control(path: str) -> int:
    """Return the control register of a bridge's Access Control Services; 0 where it has none."""
    with open(path, "rb") as file:
        config = file.read()
    if len(config) <= EXTENDED:
        if os.path.getsize(path) > EXTENDED:
            raise ReadError("only root may read all of it")
        return 0
    at = EXTENDED
    for _ in range(len(config) // 8):  # a chain that leads back to itself would never end
        (header,) = struct.unpack_from("<I", config, at)
        if header & 0xFFFF == ACS:
            (value,) = struct.unpack_from("<H", config, at + CONTROL)
            return int(value)
        at = header >> 20
        if at < EXTENDED or at + 8 > len(config):
            break
    return 0
