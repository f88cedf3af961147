"""What goes wrong in a rack, done to a twin. Each returns when the effect is visible where it would be seen."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from rackwright.errors import DeclarationError, StepFailed
from rackwright.twin.backend import Say
from rackwright.twin.files import write
from rackwright.twin.twin import Twin
from rackwright.twin.vm.machine import VirtualDrive, VirtualMachine, drive_device
from rackwright.twin.vm.qmp import Monitor, monitor

UNPLUG_SECONDS = 60
"""What a guest may take to let go of a drive in a PCIe slot."""

_DRIVE_WITH_SERIAL = """\
drive_with_serial() {
    for path in /sys/block/*/serial /sys/block/*/device/serial /sys/block/*/device/vpd_pg80; do
        [ -r "$path" ] || continue
        case $path in *vpd_pg80) skip=5 ;; *) skip=1 ;; esac
        name=${path#/sys/block/}
        [ "$(tail -c +$skip "$path" | tr -d '\\0' | sed 's/^ *//; s/ *$//')" = "$1" ] && echo "${name%%/*}" && return
    done
    return 1
}
"""
"""In sh: the kernel's name of the drive with a serial, from the place each bus has for it."""

_FORGET = """\
name=$(drive_with_serial "$1") || exit 0
echo 1 > "/sys/block/$name/device/delete"
! drive_with_serial "$1"
"""
_FIND = """\
tries=0
until drive_with_serial "$1"; do
    [ $((tries += 1)) -le 60 ] || exit 1
    for scan in /sys/class/scsi_host/host*/scan; do [ -e "$scan" ] && echo '- - -' > "$scan"; done
    # A place that was empty when the adapter started is looked at again only after its reset.
    [ $tries -ne 3 ] || for any in /dev/sd?; do [ -b "$any" ] && sg_reset "$any"; done
    sleep 0.2
done
"""
_SG_RESET = """\
sg_reset() { python3 -c 'import fcntl, os, struct, sys
SG_SCSI_RESET, SG_SCSI_RESET_HOST = 0x2284, 3
drive = os.open(sys.argv[1], os.O_RDONLY | os.O_NONBLOCK)
fcntl.ioctl(drive, SG_SCSI_RESET, struct.pack("i", SG_SCSI_RESET_HOST))' "$1"; }
"""


def pull(twin: Twin, host: str, serial: str) -> None:
    """Take a data drive out of its place; it stays out over power cuts until it is inserted.

    Raises:
        StepFailed: The guest does not let go of it, or does not answer where it has to be told.
        DeclarationError: The host has no such drive; a container has none at all.
    """
    drive, settings = _virtual_machine(twin, host, "drives").drive(serial), twin.settings(host)
    if twin.is_on(host) and serial not in settings.pulled:
        with monitor(twin.layout.monitor_socket(host), host) as qemu:
            qemu.execute("device_del", {"id": drive.id})
            qemu.wait_for("DEVICE_DELETED", UNPLUG_SECONDS, device=drive.id)
    settings.update(pulled=sorted({*settings.pulled, serial}))
    if twin.is_on(host) and drive.bus == "sas":  # this adapter tells nobody, where a real one reports the loss
        _in_guest(twin, host, _FORGET, drive)


def insert(twin: Twin, host: str, serial: str) -> None:
    """Put a pulled drive back into its place, and return when the guest has found it."""
    machine, settings = _virtual_machine(twin, host, "drives"), twin.settings(host)
    drive = machine.drive(serial)
    if twin.is_on(host) and serial in settings.pulled:
        with monitor(twin.layout.monitor_socket(host), host) as qemu:
            qemu.execute("device_add", drive_device(machine, drive))
    settings.update(pulled=sorted({*settings.pulled} - {serial}))
    if twin.is_on(host):
        _in_guest(twin, host, _SG_RESET + _FIND, drive)


def power_off(twin: Twin, host: str) -> None:
    """Cut the power of *host*: what its kernel had not written is lost."""
    twin.power_off(host)


def power_on(twin: Twin, host: str, say: Say) -> None:
    """Give *host* its power back, and return when it answers SSH."""
    twin.power_on(host, say)


def hard_reset(twin: Twin, host: str, say: Say) -> None:
    """Press the reset button of *host*, and return when it answers SSH again."""
    _need_power(twin, host)
    twin.reset_hard(host, say)


def limit(twin: Twin, host: str, size: int | None) -> None:
    """Let the switch's ports of *host* lose packets of more than *size* bytes; of None they take all again.

    That lasts until the twin is stopped.
    """
    machine, path = twin.machine(host), twin.layout.switch_limits
    _need_power(twin, host)
    limits = json.loads(path.read_text()) if path.exists() else {}
    for nic in machine.nics:
        limits.pop(nic.mac, None)
        if size is not None:
            limits[nic.mac] = size
    write(path, json.dumps(limits).encode())


@contextmanager
def paused(twin: Twin, host: str) -> Iterator[None]:
    """Hold the processor of *host* still, so that the files of its disks do not change meanwhile."""
    with _monitor(twin, host) as qemu:
        qemu.execute("stop")
    try:
        yield
    finally:
        with _monitor(twin, host) as qemu:
            qemu.execute("cont")


@contextmanager
def _monitor(twin: Twin, host: str) -> Iterator[Monitor]:
    _virtual_machine(twin, host, "a processor")
    _need_power(twin, host)
    with monitor(twin.layout.monitor_socket(host), host) as qemu:
        yield qemu


def _need_power(twin: Twin, host: str) -> None:
    twin.machine(host)
    if not twin.is_on(host):
        raise StepFailed(
            host, "it is off", "this is done to a running machine", f"Run `rackwright twin fault power-on {host}`"
        )


def _virtual_machine(twin: Twin, host: str, what: str) -> VirtualMachine:
    """Return *host*, which needs *what* of its own for a fault."""
    machine = twin.machine(host)
    if not isinstance(machine, VirtualMachine):
        raise DeclarationError(
            host,
            "got a container",
            f"only a virtual machine has {what} of its own",
            f"Name one, or take {host} out of rackwright:containers",
        )
    return machine


def _in_guest(twin: Twin, host: str, script: str, drive: VirtualDrive) -> None:
    """Run *script* as root in the guest, with the serial of *drive* as its argument."""
    argv = twin.ssh(host, "sudo", "-n", "sh", "-s", "--", f"'{drive.serial}'")
    run = subprocess.run(argv, check=False, input=_DRIVE_WITH_SERIAL + script, capture_output=True, text=True)
    if run.returncode:
        raise StepFailed(
            f"{host}: drive {drive.serial}",
            f"the guest did not follow: {(run.stderr or run.stdout).strip() or 'it sees no change'}",
            "a guest sees what happens to its drives",
            "Look at the guest's `dmesg`; a restart of the guest shows it in any case",
        )
