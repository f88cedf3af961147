"""The fleet scaled for a virtual twin on one computer."""

from collections.abc import Collection, Iterator, Sequence

from rackwright.schema.fleet import Fleet
from rackwright.schema.host import Host
from rackwright.schema.problem import Problem, hint
from rackwright.schema.released import WITHOUT
from rackwright.schema.tier import Tier
from rackwright.schema.units import format_size

DRIVE_BYTES = 512_000_000
"""Size of a virtual data drive: the smallest with room for xfs, which needs 300 MiB, in every tier."""
VENDORS = {"nvidia_driver": "vendor", "cuda": "vendor", "dcgm": None, "rdma": "doca"}
"""Value of the variable `source` with which a role takes packages from its vendor's repository, by role.

None for a role without that variable: it always does.
"""
SYSTEM = "debian-12"
"""Operating system of the images of a twin's hosts."""
BOOT_BYTES = 4_000_000_000


def twin_of(fleet: Fleet, containers: Collection[str] = ()) -> tuple[Fleet, tuple[str, ...]]:
    """Return *fleet* with drives of twin size, and notices about the differences for the operator.

    Names, identities, serial numbers, buses, NICs and tiers stay. The twin runs hosts in *containers* as containers,
    whose tiers are directories of this computer: they have no drives, and no kernel of their own for arrays.
    """
    hosts = {name: _contain(host) if name in containers else _scale(host) for name, host in fleet.hosts.items()}
    machines = {name: host for name, host in fleet.hosts.items() if name not in containers}
    notices = []
    if machines:
        notices.append(f"on the twin every data drive has {format_size(DRIVE_BYTES)}, instead of its declared size")
    if arrays := [f"{name}/{tier}" for name, host in machines.items() for tier, it in host.tiers.items() if it.array]:
        notices.append(f"{', '.join(arrays)}: created on the twin, which has no array to take over")
    if contained := [name for name in fleet.hosts if name in containers]:
        names = ", ".join(contained)
        notices.append(f"{names}: a container on the twin, with this computer's kernel and without drives")
    if any(not tier.provided for name in contained for tier in fleet.hosts[name].tiers.values()):
        notices.append("tiers of containers are directories: their arrays, encryption and drives are not rehearsed")
    if of_vendors := [f"{name}/{role}" for name, host in fleet.hosts.items() for role in roles_of_vendors(host)]:
        names = ", ".join(of_vendors)
        notices.append(f"left out: {names}; the twin reaches no vendor's repository, and has a stand-in for the driver")
    return fleet.model_copy(update={"hosts": hosts}), tuple(notices)


def roles_of_vendors(host: Host) -> Iterator[str]:
    """Yield the roles of *host* whose packages come from their vendor's repository, which a twin cannot reach."""
    for role, source in VENDORS.items():
        if role in host.roles and (host.roles[role] or {}).get("source") == source:
            yield role


def unknown_names(names: Sequence[str], known: Collection[str], noun: str) -> Iterator[Problem]:
    """Yield a problem for each of *names* in a list of a stack's settings that is none of the *known* ones.

    Args:
        noun: The noun for the known names, like "hosts of the fleet".
    """
    for index, name in enumerate(names):
        if name not in known:
            help = hint(name, known, f"Remove {name}", taken=names)
            yield Problem(f"got {name!r}", f"{noun}: {', '.join(known)}", help, (index,))


def machine_problems(fleet: Fleet, containers: Collection[str], setting: str, file: str) -> Iterator[Problem]:
    """Yield a problem for each sort of hosts that a twin cannot have, at the first of them.

    Args:
        setting: The name of the setting with the containers.
        file: The file with that setting.
    """
    if others := [name for name, host in fleet.hosts.items() if host.os != SYSTEM]:
        problem = f"got {fleet.hosts[others[0]].os} on {', '.join(others)}"
        help = f"Write {WITHOUT}: [{', '.join(others)}] in {file}, and the twin leaves them out"
        yield Problem(problem, f"hosts of a twin run {SYSTEM}", help, ("hosts", others[0], "os"))
    wrong = {
        name: next(tier for tier, declared in host.tiers.items() if declared.provided)
        for name, host in fleet.hosts.items()
        if name not in containers and any(tier.provided for tier in host.tiers.values())
    }
    if not wrong:
        return
    host, tier = next(iter(wrong.items()))
    problem = f"got a provided tier on {', '.join(wrong)}, which the twin runs as virtual machines"
    expected = "only a container gets a directory of this computer in the place of a filesystem of others"
    help = f"Add {', '.join(wrong)} to {setting} in {file}"
    yield Problem(problem, expected, help, ("hosts", host, "tiers", tier))


def _scale(host: Host) -> Host:
    drives = tuple(
        drive.model_copy(update={"size": None if drive.boot else drive.size and DRIVE_BYTES}) for drive in host.drives
    )
    tiers = {name: tier.model_copy(update={"array": None}) for name, tier in host.tiers.items()}
    return host.model_copy(update={"drives": drives, "tiers": tiers})


def _contain(host: Host) -> Host:
    """Return *host* without drives, and with tiers that others mount."""
    tiers = {name: Tier(provided=True, mount=tier.mount) for name, tier in host.tiers.items()}
    return host.model_copy(update={"drives": (), "wipe": {}, "tiers": tiers})
