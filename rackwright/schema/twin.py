"""The same fleet, scaled to what a virtual twin of it can be on one computer."""

from collections.abc import Collection, Iterator
from typing import Any

from rackwright.schema.fleet import Fleet
from rackwright.schema.host import Host
from rackwright.schema.problem import Problem, hint
from rackwright.schema.units import format_size

DRIVE_BYTES = 512_000_000
"""Size of a virtual data drive: the least that leaves any tier room for xfs, whose filesystems have 300 MiB or more."""
BOOT_BYTES = 4_000_000_000


def twin_of(fleet: Fleet, containers: Collection[str] = ()) -> tuple[Fleet, tuple[str, ...]]:
    """Return *fleet* with drives of twin size, and what a person should be told about the difference.

    Names, identities, serials, buses, NICs and tiers stay the fleet's own. Hosts in *containers* are such.
    """
    hosts = {name: _scaled(host) for name, host in fleet.hosts.items()}
    notice = f"on the twin every data drive is {format_size(DRIVE_BYTES)}, whatever the fleet says of its size"
    notices = [notice]
    if taken := [f"{name}/{tier}" for name, host in fleet.hosts.items() for tier, it in host.tiers.items() if it.array]:
        notices.append(f"{', '.join(taken)}: made on the twin, where there is no array to take over")
    if containers:
        names = ", ".join(name for name in fleet.hosts if name in containers)
        notices.append(f"{names}: on the twin a container, with this computer's kernel and without drives")
    return fleet.model_copy(update={"hosts": hosts}), tuple(notices)


def container_problems(listed: Any, fleet: Fleet) -> Iterator[Problem]:
    """Yield what is wrong with *listed*, which should be names of hosts that can be containers."""
    if not isinstance(listed, list) or not all(isinstance(name, str) for name in listed):
        example = ", ".join(list(fleet.hosts)[:2])
        yield Problem(f"got {listed!r}", "containers are a list of hosts", f"Write it like [{example}]")
        return
    for index, name in enumerate(listed):
        if name not in fleet.hosts:
            want, fix = f"hosts of the fleet: {', '.join(fleet.hosts)}", hint(name, fleet.hosts, "Correct the name")
            yield Problem(f"got {name!r}", want, fix, (index,))
        elif any(not tier.provided for tier in fleet.hosts[name].tiers.values()):
            want = "a host with tiers is a virtual machine on the twin: arrays need a kernel of their own"
            yield Problem(f"got {name!r}", want, "Take it out of the list", (index,))


def _scaled(host: Host) -> Host:
    drives = tuple(
        drive.model_copy(update={"size": None if drive.boot else drive.size and DRIVE_BYTES}) for drive in host.drives
    )
    tiers = {name: tier.model_copy(update={"array": None}) for name, tier in host.tiers.items()}
    return host.model_copy(update={"drives": drives, "tiers": tiers})
