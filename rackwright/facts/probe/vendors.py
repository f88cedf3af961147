"""Versions of vendors' software, users of accelerators, and bridges that redirect PCI packets."""

from __future__ import annotations

import os
import re
import struct
from glob import glob
from typing import Any

from rackwright.facts.probe.observe import ReadError, attempt, listing, read

READINGS = (
    # Jetson Linux Developer Guide; nvpmodel writes the selected mode
    ("jetson.release", "/etc/nv_tegra_release", r"^# R(\d+) \(release\), REVISION: ([\d.]+)"),
    ("jetson.power_mode", "/var/lib/nvpmodel/status", r"^pmode:0*(\d+)"),
    # ROCm documentation, Install ROCm Optiq: the build number follows the release
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
"""Name of a reading, pattern of its file (the first existing file counts), and regular expression; its groups are
joined by dots."""
DEVICES = re.compile(r"/dev/(kfd|accel/accel\d+|hl\d+|davinci\d+)")
"""Accelerators of AMD, Intel (before and since Linux 6.2) and Huawei. NVIDIA's driver reports its own users."""
BRIDGE = "0x0604"
"""Prefix of the class of a PCI-to-PCI bridge. Source: PCI Code and ID Assignment, 1.6."""
EXTENDED, ACS, CONTROL = 0x100, 0x0D, 6
"""Offset of the extended capabilities, id of Access Control Services, and offset of its control register.
Source: include/uapi/linux/pci_regs.h."""


def readings(root: str) -> dict[str, Any]:
    """Return the value of each reading by name; software that is not installed has none."""
    candidates = ((name, sorted(glob(root + path_pattern)), pattern) for name, path_pattern, pattern in READINGS)
    return {name: attempt(reading, paths[0], pattern) for name, paths, pattern in candidates if paths}


def reading(path: str, pattern: str) -> str:
    match = re.search(pattern, read(path), re.MULTILINE)
    if match is None:
        raise ReadError(f"{path} has an unknown form")
    return ".".join(match.groups())


def dkms(root: str) -> dict[str, dict[str, list[str]]]:
    """Return the modules in the tree of DKMS by name and version, each with the kernels that it is built for."""
    top = f"{root}/var/lib/dkms"
    built_for: dict[str, dict[str, list[str]]] = {}
    for name in listing(top):
        for version in listing(f"{top}/{name}") if os.path.isdir(f"{top}/{name}") else ():
            folder = f"{top}/{name}/{version}"
            if os.path.isdir(folder) and not os.path.islink(folder) and version != "original_module":
                modules = glob(f"{folder}/*/*/module")  # by kernel and machine
                built_for.setdefault(name, {})[version] = sorted({path.split("/")[-3] for path in modules})
    return built_for


def accelerator_users(root: str, users: dict[str, list[int]]) -> list[dict[str, Any]]:
    """Return the processes that use an accelerator of another vendor than NVIDIA, once for each process and device.

    Args:
        users: The processes that have each device open.
    """
    opened = sorted((pid, device) for device, pids in users.items() if DEVICES.fullmatch(device) for pid in pids)
    return [{"pid": pid, "name": attempt(read, f"{root}/proc/{pid}/comm"), "device": device} for pid, device in opened]


def redirecting_bridges(root: str) -> list[str]:
    """Return the addresses of bridges that redirect packets between PCI devices through the root complex."""
    top = f"{root}/sys/bus/pci/devices"
    return [
        address
        for address in listing(top)
        if read(f"{top}/{address}/class").startswith(BRIDGE) and acs_control(f"{top}/{address}/config")
    ]


def acs_control(path: str) -> int:
    """Return the control register of a bridge's Access Control Services; 0 for a bridge without them."""
    with open(path, "rb") as file:
        config = file.read()
    if len(config) <= EXTENDED:
        if os.path.getsize(path) > EXTENDED:
            raise ReadError("only root may read all of it")
        return 0
    offset = EXTENDED
    for _ in range(len(config) // 8):  # a bound, because a faulty chain may form a loop
        (header,) = struct.unpack_from("<I", config, offset)
        if header & 0xFFFF == ACS:
            (value,) = struct.unpack_from("<H", config, offset + CONTROL)
            return int(value)
        offset = header >> 20
        if offset < EXTENDED or offset + 8 > len(config):
            break
    return 0
