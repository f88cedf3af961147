"""Faults of drives: errors, slow requests, ignored discards, and a health warning.

A fault lasts until it is cleared, or until the machine loses its power.

QEMU injects the fault between the drive and its disk, so the guest sees it from its controller, as with a real drive.
Only NVMe drives report their health, by the critical warning of their log.
"""

from collections.abc import Mapping
from typing import Any

from rackwright.errors import DeclarationError, Diagnostic
from rackwright.twin.guest_shell import DRIVE_WITH_SERIAL, open_host_monitor, run_in_guest, virtual_machine
from rackwright.twin.twin import Twin
from rackwright.twin.vm.machine import VirtualDrive, disk_node
from rackwright.twin.vm.qmp import Monitor

SLOW_IOPS = 20
"""Requests per second: 50 ms each."""
RELIABILITY_DEGRADED = 0x04
"""Bit of an NVMe drive's critical warning. Source: NVM Express Base Specification, SMART / Health Information log."""

_FIND_DRIVE = 'drive=$(drive_with_serial "$1") || { echo "the guest sees no such drive" >&2; exit 1; }\n'
_READ = 'dd if="/dev/$drive" of=/dev/null bs=4096 count=1 iflag=direct status=none'
_WRITE = """\
last=$(($(cat "/sys/block/$drive/size") / 8 - 1))
dd if="/dev/$drive" of=/run/rackwright-fault bs=4096 skip=$last count=1 iflag=direct status=none
as_it_was() { dd if=/run/rackwright-fault of="/dev/$drive" bs=4096 seek=$last oflag=direct status=none; }
"""
_TIME_READS = """\
now() { sed 's/\\.//; s/ .*//' /proc/uptime; }
before=$(now)
dd if="/dev/$drive" of=/dev/null bs=4096 count=20 iflag=direct status=none
took=$(($(now) - before))
"""
_KEEPS_DISCARDED = """\
blkdiscard --force --offset $((last * 4096)) --length 4096 "/dev/$drive"
dd if="/dev/$drive" bs=4096 skip=$last count=1 iflag=direct status=none | cmp -s - /run/rackwright-fault && kept=1
as_it_was
"""
_IS_SOUND = 'nvme smart-log --output-format=json "/dev/$drive" | grep -q \'"critical_warning" *: *0\\b\''
CHECKS = {
    "read-errors": f"! {_READ} 2>/dev/null",
    "write-errors": f"{_WRITE}! as_it_was 2>/dev/null",
    "slow": f"{_TIME_READS}[ $took -ge 50 ]",
    "ignore-discard": f"kept=0\n{_WRITE}{_KEEPS_DISCARDED}[ $kept = 1 ]",
    "failing": f"! {_IS_SOUND}",
    "clear": f"{_READ}\n{_WRITE}as_it_was\ncase $drive in nvme*) {_IS_SOUND} ;; esac",
}
"""Shell tests that succeed once the guest sees a fault of ``$drive``, by the name of the fault.

The tests write back only the data that they have read. A drive is slow if 20 reads take half a second or more. An
ignored discard is visible only where the discarded data is not all zeros.
"""
FAULTS = tuple(CHECKS)


def inject(twin: Twin, host: str, serial: str, fault: str) -> None:
    """Inject *fault* into a data drive in place of an earlier fault, and return when the guest sees it.

    Raises:
        DeclarationError: The host has no such drive, or the drive does not report its health.
        StepFailed: The guest does not see the fault.
    """
    drive = virtual_machine(twin, host, "drives").drive(serial)
    if fault == "failing" and drive.bus != "nvme":
        problem, note = f"a virtual {drive.bus} drive cannot fail", "only virtual NVMe drives report their health"
        where = f"{host}: drive {serial}"
        raise DeclarationError(Diagnostic(where, problem, "an NVMe drive", "Name such a drive", note))
    with open_host_monitor(twin, host, "drives") as qemu:
        clear(qemu, drive)
        if fault == "failing":
            set_warning(qemu, drive, RELIABILITY_DEGRADED)
        elif fault != "clear":
            insert(qemu, drive, fault)
    run_in_guest(twin, host, f"set -e\n{DRIVE_WITH_SERIAL}{_FIND_DRIVE}{CHECKS[fault]}\n", f"drive {serial}", serial)


def insert(qemu: Monitor, drive: VirtualDrive, fault: str) -> None:
    """Insert the QEMU node of *fault* between *drive* and its disk."""
    if fault == "slow":
        limits = {"iops-total": SLOW_IOPS}
        qemu.execute("object-add", {"qom-type": "throttle-group", "id": _throttle_group(drive), "limits": limits})
        node: Mapping[str, Any] = {
            "driver": "throttle",
            "throttle-group": _throttle_group(drive),
            "file": _file_node(drive),
        }
    elif fault == "ignore-discard":  # the drive accepts discards and does not carry them out
        node = {"driver": "raw", "discard": "ignore", "file": _file_node(drive)}
    else:
        # a flush has to succeed, or QEMU would not remove this node again
        kinds = ["read"] if fault == "read-errors" else ["write", "write-zeroes", "discard"]
        rules = [{"event": "none", "iotype": kind, "errno": 5, "immediately": True} for kind in kinds]
        node = {"driver": "blkdebug", "image": _file_node(drive), "inject-error": rules}
    qemu.execute("blockdev-add", {"node-name": _fault_node(drive), **node})
    qemu.execute("blockdev-reopen", {"options": [disk_node(drive, _fault_node(drive))]})


def clear(qemu: Monitor, drive: VirtualDrive) -> None:
    """Connect *drive* to its disk without a fault, and clear its health warning."""
    nodes = {node["node-name"] for node in qemu.execute("query-named-block-nodes", {"flat": True})}
    if _fault_node(drive) in nodes:
        qemu.execute("blockdev-reopen", {"options": [disk_node(drive, _file_node(drive))]})
        qemu.execute("blockdev-del", {"node-name": _fault_node(drive)})
    if "objects" in _child_names(qemu, "/") and _throttle_group(drive) in _child_names(qemu, "/objects"):
        qemu.execute("object-del", {"id": _throttle_group(drive)})
    if drive.bus == "nvme" and drive.id in _child_names(qemu, "/machine/peripheral"):
        set_warning(qemu, drive, 0)


def set_warning(qemu: Monitor, drive: VirtualDrive, warning: int) -> None:
    path = f"/machine/peripheral/{drive.id}"
    qemu.execute("qom-set", {"path": path, "property": "smart_critical_warning", "value": warning})


def _child_names(qemu: Monitor, path: str) -> set[str]:
    return {each["name"] for each in qemu.execute("qom-list", {"path": path})}


def _file_node(drive: VirtualDrive) -> str:
    return f"{drive.id}-file"


def _fault_node(drive: VirtualDrive) -> str:
    return f"{drive.id}-fault"


def _throttle_group(drive: VirtualDrive) -> str:
    return f"{drive.id}-pace"
