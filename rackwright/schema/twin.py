"""The fleet scaled for a virtual twin on one computer."""

from collections.abc import Collection, Iterator
from typing import Any

from rackwright.schema.fleet import Fleet
from rackwright.schema.host import Host
from rackwright.schema.problem import Problem, hint
from rackwright.schema.units import format_size

DRIVE_BYTES = 512_000_000
"""Size of a virtual data drive: the smallest with room for xfs, which needs 300 MiB, in every tier."""
BOOT_BYTES = 4_000_000_000


def twin_of(fleet: Fleet, containers: Collection[str] = ()) -> tuple[Fleet, tuple[str, ...]]:
    """Return *fleet* with drives of twin size, and notices about the differences for the operator.

    Names, identities, serial numbers, buses, NICs and tiers stay. The twin runs hosts in *containers* as containers.
    """
    hosts = {name: _scale(host) for name, host in fleet.hosts.items()}
    notices = [f"on the twin every data drive has {format_size(DRIVE_BYTES)}, instead of its declared size"]
    if arrays := [
        f"{name}/{tier}" for name, host in fleet.hosts.items() for tier, it in host.tiers.items() if it.array
    ]:
        notices.append(f"{', '.join(arrays)}: created on the twin, which has no array to take over")
    if containers:
        names = ", ".join(name for name in fleet.hosts if name in containers)
        notices.append(f"{names}: a container on the twin, with this computer's kernel and without drives")
    return fleet.model_copy(update={"hosts": hosts}), tuple(notices)


def container_problems(names: Any, fleet: Fleet) -> Iterator[Problem]:
    """Yield the problems of *names*, which should be a list of hosts that can be containers."""
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        example = ", ".join(list(fleet.hosts)[:2])
        yield Problem(f"got {names!r}", "containers are a list of hosts", f"Write it like [{example}]")
        return
    for index, name in enumerate(names):
        if name not in fleet.hosts:
            expected, help = (
                f"hosts of the fleet: {', '.join(fleet.hosts)}",
                hint(name, fleet.hosts, "Correct the name"),
            )
            yield Problem(f"got {name!r}", expected, help, (index,))
        elif any(not tier.provided for tier in fleet.hosts[name].tiers.values()):
            expected = "a host with tiers is a virtual machine on the twin: arrays need a kernel of their own"
            yield Problem(f"got {name!r}", expected, "Remove it from the list", (index,))


def _scale(host: Host) -> Host:
    drives = tuple(
        drive.model_copy(update={"size": None if drive.boot else drive.size and DRIVE_BYTES}) for drive in host.drives
    )
    tiers = {name: tier.model_copy(update={"array": None}) for name, tier in host.tiers.items()}
    return host.model_copy(update={"drives": drives, "tiers": tiers})
