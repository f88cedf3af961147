"""Conversion of a fleet's hosts into virtual machines and containers."""

import hashlib
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

from rackwright.errors import DeclarationError, Diagnostic
from rackwright.schema import nvidia
from rackwright.schema.fleet import Fleet
from rackwright.schema.host import Drive, Host
from rackwright.schema.port import Nic
from rackwright.schema.twin import BOOT_BYTES, DRIVE_BYTES, roles_of_vendors
from rackwright.twin import mirrors
from rackwright.twin.backend import VirtualNic
from rackwright.twin.container.container import Container
from rackwright.twin.twin import Twin
from rackwright.twin.vm import machine
from rackwright.twin.vm.machine import VirtualDrive, VirtualMachine

BUSES: dict[str | None, Literal["nvme", "sas", "virtio"]] = {
    "nvme": "nvme",
    "sas": "sas",
    "virtio": "virtio",
    None: "virtio",
}

MEMORY_MIB = {"kubernetes_node": 1536, "kubernetes_control_plane": 2560}
"""Memory of a virtual machine with one of these roles, in MiB; without them it has that of VirtualMachine."""


def build_twin(
    name: str,
    project: Path,
    fleet: Fleet,
    containers: Collection[str] = (),
    lends_mirrors: bool = False,
    workloads: Path | None = None,
) -> Twin:
    """Return the twin *name* of *fleet*, in its own directory of the project.

    Args:
        containers: Names of the hosts that are containers; the others are virtual machines.
        lends_mirrors: Whether hosts get packages from the mirrors of this computer.
        workloads: The virtual environment of the workloads that containers get.
    """
    make = {host: _container if host in containers else _virtual_machine for host in fleet.hosts}
    machines = [make[name](name, host) for name, host in fleet.hosts.items()]
    if lends_mirrors:
        machines = [replace(machine, mirrors=mirrors.source_lines(machine.os)) for machine in machines]
    if workloads is not None:
        machines = [
            replace(machine, workloads=str(workloads)) if isinstance(machine, Container) else machine
            for machine in machines
        ]
    return Twin(directory(project, name), machines)


def containers_of(fleet: Fleet, names: Collection[str]) -> list[Container]:
    """Return the hosts of *fleet* with these *names* as the containers that they become in a twin."""
    return [_container(name, host) for name, host in fleet.hosts.items() if name in names]


def directory(project: Path, name: str) -> Path:
    """Return the directory of the twin *name* of *project*."""
    return project / ".rackwright" / "twins" / name


def _container(name: str, host: Host) -> Container:
    _check_os(name, host)
    provided = tuple(tier.mount for tier in host.tiers.values() if tier.provided)
    identity = host.identity.strongest[1]
    gpus, nests = nvidia.gpus(host.minimum), "kubernetes_node" in host.roles
    kinds = (("bond", host.network.bonds), ("vlan", host.network.vlans)) if host.network else ()
    links = tuple(kind for kind, declared in kinds if declared)
    driver = _driver(host)
    return Container(
        name, identity, _nics(name, host), gpus=gpus, driver=driver, provided=provided, nests=nests, links=links
    )


def _virtual_machine(name: str, host: Host) -> VirtualMachine:
    _check_os(name, host)
    if provided := [tier for tier, declared in host.tiers.items() if declared.provided]:
        raise _declaration_error(
            f"{name}: tier {provided[0]}", "a virtual machine cannot have a provided tier", "provided: false"
        )
    drives = tuple(_drives(name, host))
    if not any(drive.boot for drive in drives):
        drives = (VirtualDrive(f"{name}-boot"[:20], "virtio", BOOT_BYTES, boot=True), *drives)
    serial, uuid = host.identity.serial or f"TWIN-{name}", host.identity.uuid
    if not (host.identity.serial or uuid):
        raise _declaration_error(
            name,
            f"a virtual machine cannot be identified by {host.identity.strongest[0]}",
            "a chassis serial or a UUID",
        )
    nics, gpus = _nics(name, host), nvidia.gpus(host.minimum)
    tpm = any(tier.tpm2 for tier in host.tiers.values())
    memory = max(MEMORY_MIB.get(role, machine.MEMORY_MIB) for role in ("", *host.roles))
    # kubeadm makes no control plane on a host with one processor
    processors = 2 if "kubernetes_control_plane" in host.roles else 1
    return VirtualMachine(
        name, serial, drives, nics, memory, processors, uuid=uuid, gpus=gpus, driver=_driver(host), tpm=tpm
    )


def _driver(host: Host) -> str:
    """Return the declared version of NVIDIA's driver where a twin leaves it out, since it is its vendor's."""
    if "nvidia_driver" not in roles_of_vendors(host):
        return ""
    # a set of the fleet's own may be declared without it: the version of the stand-in is then that of no driver
    return str((host.roles["nvidia_driver"] or {}).get("version", "0"))


def _check_os(name: str, host: Host) -> None:
    if host.os != "debian-12":
        raise _declaration_error(name, f"a twin cannot run {host.os}", "debian-12")


def _nics(name: str, host: Host) -> tuple[VirtualNic, ...]:
    return tuple(VirtualNic(nic.name, nic.mac or _own_mac(name, nic), nic.mtu) for nic in host.nics)


def _own_mac(host: str, nic: Nic) -> str:
    """Return a MAC address for a port that is declared by its PCI address, which a twin does not have."""
    digest = hashlib.blake2s(f"{host}/{nic.name}".encode(), digest_size=3).hexdigest()
    return f"52:54:00:{digest[:2]}:{digest[2:4]}:{digest[4:]}"


def _drives(name: str, host: Host) -> Iterator[VirtualDrive]:
    for drive in host.drives:
        if drive.bus not in BUSES:
            raise _declaration_error(
                f"{name}: drive {drive.serial}", f"a twin has no drives on bus {drive.bus}", "nvme, sas or virtio"
            )
        size = BOOT_BYTES if drive.boot else drive.size or DRIVE_BYTES
        bus = "virtio" if drive.boot else BUSES[drive.bus]
        sas = bus == "sas"
        yield VirtualDrive(drive.serial, bus, size, drive.boot, rotational=sas, wwn=_wwn(name, drive) if sas else None)


def _wwn(host: str, drive: Drive) -> str:
    """Return a unique World Wide Name for a drive, in the range of one maker (NAA 5)."""
    return "0x5000c5" + hashlib.blake2s(f"{host}/{drive.serial}".encode(), digest_size=5).hexdigest()


def _declaration_error(where: str, problem: str, expected: str) -> DeclarationError:
    help = "Rehearse this host on real hardware, or change its declaration"
    return DeclarationError(Diagnostic(where, problem, expected, help))
