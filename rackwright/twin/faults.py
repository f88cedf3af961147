"""What goes wrong in a rack, done to a twin. Each returns when the effect is visible where it would be seen."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

from rackwright.progress import Progress
from rackwright.twin.files import write
from rackwright.twin.guest_shell import (
    DRIVE_WITH_SERIAL,
    in_guest,
    monitored,
    need_power,
    virtual_machine,
)
from rackwright.twin.twin import Twin
from rackwright.twin.vm.machine import drive_device
from rackwright.twin.vm.qmp import monitor

UNPLUG_SECONDS = 60
"""What a guest may take to let go of a drive in a PCIe slot."""

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
    drive, settings = virtual_machine(twin, host, "drives").drive(serial), twin.settings(host)
    if twin.is_on(host) and serial not in settings.pulled:
        with monitor(twin.layout.monitor_socket(host), host) as qemu:
            qemu.execute("device_del", {"id": drive.id})
            qemu.wait_for("DEVICE_DELETED", UNPLUG_SECONDS, device=drive.id)
    settings.update(pulled=sorted({*settings.pulled, serial}))
    if twin.is_on(host) and drive.bus == "sas":  # this adapter tells nobody, where a real one reports the loss
        in_guest(twin, host, DRIVE_WITH_SERIAL + _FORGET, f"drive {serial}", serial)


def insert(twin: Twin, host: str, serial: str) -> None:
    """Put a pulled drive back into its place, and return when the guest has found it."""
    machine, settings = virtual_machine(twin, host, "drives"), twin.settings(host)
    drive = machine.drive(serial)
    if twin.is_on(host) and serial in settings.pulled:
        with monitor(twin.layout.monitor_socket(host), host) as qemu:
            qemu.execute("device_add", drive_device(machine, drive))
    settings.update(pulled=sorted({*settings.pulled} - {serial}))
    if twin.is_on(host):
        in_guest(twin, host, DRIVE_WITH_SERIAL + _SG_RESET + _FIND, f"drive {serial}", serial)


def power_off(twin: Twin, host: str) -> None:
    """Cut the power of *host*: what its kernel had not written is lost."""
    twin.power_off(host)


def power_on(twin: Twin, host: str, progress: Progress) -> None:
    """Give *host* its power back, and return when it answers SSH."""
    twin.power_on(host, progress)


def hard_reset(twin: Twin, host: str, progress: Progress) -> None:
    """Press the reset button of *host*, and return when it answers SSH again."""
    need_power(twin, host)
    twin.reset_hard(host, progress)


def limit(twin: Twin, host: str, size: int | None) -> None:
    """Let the switch's ports of *host* lose packets of more than *size* bytes; of None they take all again.

    That lasts until the twin is stopped.
    """
    machine, path = twin.machine(host), twin.layout.switch_limits
    need_power(twin, host)
    limits = json.loads(path.read_text()) if path.exists() else {}
    for nic in machine.nics:
        limits.pop(nic.mac, None)
        if size is not None:
            limits[nic.mac] = size
    write(path, json.dumps(limits).encode())


@contextmanager
def paused(twin: Twin, host: str) -> Iterator[None]:
    """Hold the processor of *host* still, so that the files of its disks do not change meanwhile."""
    with monitored(twin, host, "a processor") as qemu:
        qemu.execute("stop")
    try:
        yield
    finally:
        with monitored(twin, host, "a processor") as qemu:
            qemu.execute("cont")
