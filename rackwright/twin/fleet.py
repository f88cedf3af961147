"""The virtual machines that a fleet's hosts become."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from rackwright.errors import DeclarationError
from rackwright.spec.fleet import Fleet
from rackwright.spec.host import Drive, Host
from rackwright.spec.twin import BOOT_BYTES, DRIVE_BYTES
from rackwright.twin.machine import VirtualDrive, VirtualMachine, VirtualNic
from rackwright.twin.twin import Twin

BUSES: dict[str | None, Literal["nvme", "sas", "virtio"]] = {
    "nvme": "nvme",
    "sas": "sas",
    "virtio": "virtio",
    None: "virtio",
}


def twin(name: str, project: Path, fleet: Fleet) -> Twin:
    """Return the twin *name* of *fleet*, in its own directory of the checkout."""
    return Twin(project / ".rackwright" / "twins" / name, [_machine(name, host) for name, host in fleet.hosts.items()])


def _machine(name: str, host: Host) -> VirtualMachine:
    if host.os != "debian-12":
        raise _cannot(name, f"os {host.os}", "a twin runs debian-12")
    drives = tuple(_drives(name, host))
    if not any(drive.boot for drive in drives):
        drives = (VirtualDrive(f"{name}-boot"[:20], "virtio", BOOT_BYTES, boot=True), *drives)
    nics = tuple(VirtualNic(nic.name, nic.mac, nic.mtu) for nic in host.nics)
    serial, uuid = host.identity.serial or f"TWIN-{name}", host.identity.uuid
    if not (host.identity.serial or uuid):
        raise _cannot(name, f"identity {host.identity.strongest[0]}", "a twin shows a chassis serial or a UUID")
    return VirtualMachine(name, serial, drives, nics, uuid=uuid)


def _drives(name: str, host: Host) -> Iterator[VirtualDrive]:
    for drive in host.drives:
        if drive.bus not in BUSES:
            raise _cannot(f"{name}: drive {drive.serial}", f"bus {drive.bus}", "a twin has nvme, sas and virtio")
        size = BOOT_BYTES if drive.boot else drive.size or DRIVE_BYTES
        bus = "virtio" if drive.boot else BUSES[drive.bus]
        sas = bus == "sas"
        yield VirtualDrive(drive.serial, bus, size, drive.boot, rotational=sas, wwn=_wwn(name, drive) if sas else None)


def _wwn(host: str, drive: Drive) -> str:
    """Return a World Wide Name of its own for a drive, in the range of one maker's (NAA 5)."""
    return "0x5000c5" + hashlib.blake2s(f"{host}/{drive.serial}".encode(), digest_size=5).hexdigest()


def _cannot(where: str, got: str, want: str) -> DeclarationError:
    return DeclarationError(where, f"got {got}", want, "Rehearse this host on real hardware, or declare another")
