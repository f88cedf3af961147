"""The same fleet, scaled to what a virtual twin of it can be on one computer."""

from rackwright.spec.fleet import Fleet
from rackwright.spec.host import Host
from rackwright.spec.units import format_size

DRIVE_BYTES = 512_000_000
"""Size of a virtual data drive: the least that leaves any tier room for xfs, whose filesystems have 300 MiB or more."""
BOOT_BYTES = 4_000_000_000


def twin_of(fleet: Fleet) -> tuple[Fleet, tuple[str, ...]]:
    """Return *fleet* with drives of twin size, and what a person should be told about the difference.

    Names, identities, serials, buses, NICs and tiers stay the fleet's own.
    """
    hosts = {name: _scaled(host) for name, host in fleet.hosts.items()}
    notice = f"on the twin every data drive is {format_size(DRIVE_BYTES)}, whatever the fleet says of its size"
    return fleet.model_copy(update={"hosts": hosts}), (notice,)


def _scaled(host: Host) -> Host:
    drives = tuple(
        drive.model_copy(update={"size": None if drive.boot else drive.size and DRIVE_BYTES}) for drive in host.drives
    )
    return host.model_copy(update={"drives": drives})
