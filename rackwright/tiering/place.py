"""Placement on hosts: reads the tiers that the rules of a fleet name, and moves directories as planned."""

from collections.abc import Callable, Iterator, Mapping

from rackwright.errors import UserError
from rackwright.hosts.transport import Connection
from rackwright.progress import Progress
from rackwright.schema.fleet import Fleet
from rackwright.schema.tier_placement import hosts_of
from rackwright.tiering import archive, placement
from rackwright.tiering.bucket import Bucket
from rackwright.tiering.meter import Meter
from rackwright.tiering.placement import Relocation, Stay
from rackwright.tiering.remote import HostDirectory

Connect = Callable[[str], Connection]
"""A function of a host's name."""


def observe(
    fleet: Fleet, connect: Connect, now: float, progress: Progress
) -> tuple[tuple[Relocation | Stay, ...], dict[str, UserError]]:
    """Return the fate of each directory that a rule of *fleet* is about, and the error of each host that was not read.

    Args:
        now: The time, in seconds of the epoch.
    """
    fates: list[Relocation | Stay] = []
    unreachable: dict[str, UserError] = {}
    for name, rule in fleet.placement.items():
        for host in hosts_of(rule, fleet.hosts):
            if host in unreachable:
                continue
            progress(f"{host}: list {rule.directory} of tier {rule.tier}")
            tiers = fleet.hosts[host].tiers
            try:
                listing = _directory(host, tiers[rule.tier].mount, connect).listing(rule.directory)
            except UserError as error:
                unreachable[host] = error
                continue
            target = tiers[rule.to.tier].mount if rule.to.tier else ""
            fates += placement.plan(name, rule, listing, target, now)
    return placement.combine(fates), unreachable


def relocations(fates: tuple[Relocation | Stay, ...]) -> tuple[Relocation, ...]:
    """Return the moves among *fates*."""
    return tuple(fate for fate in fates if isinstance(fate, Relocation))


def stays(fates: tuple[Relocation | Stay, ...]) -> Iterator[Stay]:
    """Yield the directories among *fates* that stay."""
    yield from (fate for fate in fates if isinstance(fate, Stay))


def relocate(
    relocation: Relocation,
    buckets: Mapping[str, Bucket],
    connect: Connect,
    bytes_per_second: int | None,
    progress: Progress,
) -> None:
    """Move one directory. Its source is deleted after the copy was read back.

    Raises:
        ChangeRefused: the target holds something else; nothing was deleted.
        ArchiveDamaged: the copy was read back with another content; nothing was deleted.
        StepFailed: the store, the host or a change of the directory stopped the move; nothing was deleted.
    """
    source = _directory(relocation.host, relocation.path, connect)
    if not relocation.bucket:
        meter = Meter(progress, "copied", relocation.bytes, bytes_per_second)
        source.relocate(relocation.target, meter, relocation.target_mount)
        return
    bucket = buckets[relocation.bucket]
    planned = archive.plan(bucket, relocation.target, source)
    archive.move(bucket, planned, source, False, bytes_per_second, progress)


def _directory(host: str, path: str, connect: Connect) -> HostDirectory:
    return HostDirectory(host, path, lambda: connect(host))
