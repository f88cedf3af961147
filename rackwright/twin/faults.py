"""Faults of power, drives and network in a twin. Each function returns when the effect is visible."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

from rackwright.files import write_atomic
from rackwright.progress import Progress
from rackwright.twin.guest_shell import (
    DRIVE_WITH_SERIAL,
    open_host_monitor,
    require_power,
    run_in_guest,
    virtual_machine,
)
from rackwright.twin.twin import Twin
from rackwright.twin.vm.machine import drive_device
from rackwright.twin.vm.qmp import monitor

UNPLUG_SECONDS = 60
"""Seconds that a guest may take to release a drive in a PCIe slot."""

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
    # The adapter scans a place that was empty when it started again only after a reset.
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
    """Pull a data drive out of its place. It stays out over power cuts until it is inserted.

    Raises:
        StepFailed: The guest does not release the drive, or does not answer.
        DeclarationError: The host has no such drive; a container has no drives at all.
    """
    drive, settings = virtual_machine(twin, host, "drives").drive(serial), twin.settings(host)
    if twin.is_on(host) and serial not in settings.pulled_drives:
        with monitor(twin.layout.monitor_socket(host), host) as qemu:
            qemu.execute("device_del", {"id": drive.id})
            qemu.wait_for("DEVICE_DELETED", UNPLUG_SECONDS, device=drive.id)
    settings.update(pulled=sorted({*settings.pulled_drives, serial}))
    if twin.is_on(host) and drive.bus == "sas":  # this adapter does not report the loss, as a real one does
        run_in_guest(twin, host, DRIVE_WITH_SERIAL + _FORGET, f"drive {serial}", serial)


def insert(twin: Twin, host: str, serial: str) -> None:
    """Put a pulled drive back into its place, and return when the guest sees it."""
    machine, settings = virtual_machine(twin, host, "drives"), twin.settings(host)
    drive = machine.drive(serial)
    if twin.is_on(host) and serial in settings.pulled_drives:
        with monitor(twin.layout.monitor_socket(host), host) as qemu:
            qemu.execute("device_add", drive_device(machine, drive))
    settings.update(pulled=sorted({*settings.pulled_drives} - {serial}))
    if twin.is_on(host):
        run_in_guest(twin, host, DRIVE_WITH_SERIAL + _SG_RESET + _FIND, f"drive {serial}", serial)


def power_off(twin: Twin, host: str) -> None:
    """Cut the power of *host*. Data that its kernel has not written yet is lost."""
    twin.power_off(host)


def power_on(twin: Twin, host: str, progress: Progress) -> None:
    """Switch *host* on, and return when it answers SSH."""
    twin.power_on(host, progress)


def hard_reset(twin: Twin, host: str, progress: Progress) -> None:
    """Press the reset button of *host*, and return when it answers SSH again."""
    require_power(twin, host)
    twin.reset_hard(host, progress)


def pull_cables(twin: Twin, host: str) -> None:
    """Pull all network cables of *host* out, that of its SSH server too. The host goes on without them.

    They are back after `plug_cables`, and whenever the host starts.
    """
    require_power(twin, host)
    twin.set_cables(host, plugged=False)
    while twin.answers_ssh(host):
        pass  # a connection that was made before may have its greeting


def plug_cables(twin: Twin, host: str, progress: Progress) -> None:
    """Put the network cables of *host* back, and return when it answers SSH."""
    require_power(twin, host)
    twin.set_cables(host, plugged=True)
    twin.wait(progress, [host])


def limit_packet_size(twin: Twin, host: str, size: int | None) -> None:
    """Drop packets of more than *size* bytes at the switch ports of *host*; None removes the limit.

    The limit lasts until the twin is stopped.
    """
    machine, path = twin.machine(host), twin.layout.switch_limits
    require_power(twin, host)
    limits = json.loads(path.read_text()) if path.exists() else {}
    for nic in machine.nics:
        limits.pop(nic.mac, None)
        if size is not None:
            limits[nic.mac] = size
    write_atomic(path, json.dumps(limits).encode())


@contextmanager
def pause_processor(twin: Twin, host: str) -> Iterator[None]:
    """Pause the processor of *host* for the block, so that the files of its disks do not change."""
    with open_host_monitor(twin, host, "a processor") as qemu:
        qemu.execute("stop")
    try:
        yield
    finally:
        with open_host_monitor(twin, host, "a processor") as qemu:
            qemu.execute("cont")
