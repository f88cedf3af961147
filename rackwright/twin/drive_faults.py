"""Drives that err, are slow, keep what is discarded, or call themselves failing.

Each does so until it is cleared, or the machine loses its power.

What goes wrong stands in QEMU between the drive and its disk, so that the guest has it from its controller, as from a
real one. For their health drives on NVMe alone have a word, the critical warning of their log.
"""

from collections.abc import Mapping
from typing import Any

from rackwright.errors import DeclarationError
from rackwright.twin.guest_shell import DRIVE_WITH_SERIAL, in_guest, monitored, virtual_machine
from rackwright.twin.twin import Twin
from rackwright.twin.vm.machine import VirtualDrive, disk_node
from rackwright.twin.vm.qmp import Monitor

SLOW_IOPS = 20
"""Requests per second: 50 ms each."""
RELIABILITY_DEGRADED = 0x04
"""Of an NVMe's critical warning. Source: NVM Express Base Specification, SMART / Health Information log."""

_NAME = 'drive=$(drive_with_serial "$1") || { echo "no such drive is seen" >&2; exit 1; }\n'
_READ = 'dd if="/dev/$drive" of=/dev/null bs=4096 count=1 iflag=direct status=none'
_WRITE = """\
last=$(($(cat "/sys/block/$drive/size") / 8 - 1))
dd if="/dev/$drive" of=/run/rackwright-fault bs=4096 skip=$last count=1 iflag=direct status=none
as_it_was() { dd if=/run/rackwright-fault of="/dev/$drive" bs=4096 seek=$last oflag=direct status=none; }
"""
_TIMED = """\
now() { sed 's/\\.//; s/ .*//' /proc/uptime; }
before=$(now)
dd if="/dev/$drive" of=/dev/null bs=4096 count=20 iflag=direct status=none
took=$(($(now) - before))
"""
_KEEPS = """\
blkdiscard --force --offset $((last * 4096)) --length 4096 "/dev/$drive"
dd if="/dev/$drive" bs=4096 skip=$last count=1 iflag=direct status=none | cmp -s - /run/rackwright-fault && kept=1
as_it_was
"""
_IS_SOUND = 'nvme smart-log --output-format=json "/dev/$drive" | grep -q \'"critical_warning" *: *0\\b\''
SEEN = {
    "read-errors": f"! {_READ} 2>/dev/null",
    "write-errors": f"{_WRITE}! as_it_was 2>/dev/null",
    "slow": f"{_TIMED}[ $took -ge 50 ]",
    "ignore-discard": f"kept=0\n{_WRITE}{_KEEPS}[ $kept = 1 ]",
    "failing": f"! {_IS_SOUND}",
    "clear": f"{_READ}\n{_WRITE}as_it_was\ncase $drive in nvme*) {_IS_SOUND} ;; esac",
}
"""In sh, with ``$drive``: what shows that it has come.

What is written is what stands there already; slow are 20 reads in half a second or more. That discards are ignored
shows only where what is discarded is not all zeros.
"""
FAULTS = tuple(SEEN)


def do(twin: Twin, host: str, serial: str, fault: str) -> None:
    """Let *fault* befall a data drive, instead of whatever else did; return when the guest sees it.

    Raises:
        DeclarationError: The host has no such drive, or one that tells nothing of its health.
        StepFailed: The guest does not see it.
    """
    drive = virtual_machine(twin, host, "drives").drive(serial)
    if fault == "failing" and drive.bus != "nvme":
        where, got = f"{host}: drive {serial}", f"got a drive on {drive.bus}"
        raise DeclarationError(where, got, "of virtual drives only NVMe tell of their health", "Name one of these")
    with monitored(twin, host, "drives") as qemu:
        clear(qemu, drive)
        if fault == "failing":
            warn(qemu, drive, RELIABILITY_DEGRADED)
        elif fault != "clear":
            insert(qemu, drive, fault)
    in_guest(twin, host, f"set -e\n{DRIVE_WITH_SERIAL}{_NAME}{SEEN[fault]}\n", f"drive {serial}", serial)


def insert(qemu: Monitor, drive: VirtualDrive, fault: str) -> None:
    """Put what errs or slows between *drive* and its disk."""
    if fault == "slow":
        limits = {"iops-total": SLOW_IOPS}
        qemu.execute("object-add", {"qom-type": "throttle-group", "id": _group(drive), "limits": limits})
        between: Mapping[str, Any] = {"driver": "throttle", "throttle-group": _group(drive), "file": _file(drive)}
    elif fault == "ignore-discard":  # it takes them as before, and nothing comes of it
        between = {"driver": "raw", "discard": "ignore", "file": _file(drive)}
    else:
        # a flush has to end well, or QEMU would not take this out again
        kinds = ["read"] if fault == "read-errors" else ["write", "write-zeroes", "discard"]
        rules = [{"event": "none", "iotype": kind, "errno": 5, "immediately": True} for kind in kinds]
        between = {"driver": "blkdebug", "image": _file(drive), "inject-error": rules}
    qemu.execute("blockdev-add", {"node-name": _between(drive), **between})
    qemu.execute("blockdev-reopen", {"options": [disk_node(drive, _between(drive))]})


def clear(qemu: Monitor, drive: VirtualDrive) -> None:
    """Let *drive* have its disk as it is, and call itself sound."""
    nodes = {node["node-name"] for node in qemu.execute("query-named-block-nodes", {"flat": True})}
    if _between(drive) in nodes:
        qemu.execute("blockdev-reopen", {"options": [disk_node(drive, _file(drive))]})
        qemu.execute("blockdev-del", {"node-name": _between(drive)})
    if "objects" in _below(qemu, "/") and _group(drive) in _below(qemu, "/objects"):
        qemu.execute("object-del", {"id": _group(drive)})
    if drive.bus == "nvme" and drive.id in _below(qemu, "/machine/peripheral"):
        warn(qemu, drive, 0)


def warn(qemu: Monitor, drive: VirtualDrive, warning: int) -> None:
    path = f"/machine/peripheral/{drive.id}"
    qemu.execute("qom-set", {"path": path, "property": "smart_critical_warning", "value": warning})


def _below(qemu: Monitor, path: str) -> set[str]:
    return {each["name"] for each in qemu.execute("qom-list", {"path": path})}


def _file(drive: VirtualDrive) -> str:
    return f"{drive.id}-file"


def _between(drive: VirtualDrive) -> str:
    return f"{drive.id}-fault"


def _group(drive: VirtualDrive) -> str:
    return f"{drive.id}-pace"
