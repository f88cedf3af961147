"""Rules about filesystems, devices and arrays that do something else than their content says."""

import re
from collections.abc import Iterator

from rackwright.audit.undeclared.declaration import HostDeclaration
from rackwright.audit.undeclared.network import ENGINES
from rackwright.audit.undeclared.rule import ADMIT, Finding, Rule
from rackwright.facts.facts import Facts
from rackwright.facts.view import UnknownFact

OF_CONTAINERS = ("overlay", "nsfs", "tmpfs", "proc", "sysfs", "mqueue", "devpts", "fuse.fuse-overlayfs")
"""Filesystems that engines and kubelet mount for each container, below the directory of their data."""
MONITOR = "mdmonitor.service"
SLOWEST_REBUILD_KIB = 10_000
"""Speed below which a limit keeps rebuilds of today's drives for weeks."""
READ_ONLY = "read-only"


def filesystems(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    """Yield the mounted filesystems that take no writes or may lose them, and those that hide a part of a tier."""
    unread = []
    for target in facts.table("filesystem_states"):
        wanted = declared.wants.get(f"mount:{target}", {}).get("options")
        options = wanted if isinstance(wanted, tuple | list) else ()
        try:
            found = [text for text in facts.filesystem_state(target) if text not in options]
        except UnknownFact as reason:
            unread.append(str(reason))
            continue
        if found:
            yield Finding(f"mount:{target}", ", ".join(found))
    yield from _below_tiers(facts, declared)
    if unread:
        raise UnknownFact("; ".join(unread[:3]))


def _below_tiers(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    """Yield the mounts below declared ones: what is written there does not reach the tier."""
    claimed = set(declared.names("mount"))
    has_engine = declared.in_cluster or any(facts.package(name) for name in ENGINES)
    for mount in facts.mounts:
        above = next((each for each in claimed if mount.target.startswith(f"{each.rstrip('/')}/")), None)
        if above in (None, "/") or mount.target in claimed or (has_engine and mount.type in OF_CONTAINERS):
            continue
        yield Finding(f"mount:{mount.target}", f"{mount.type} on {mount.device or 'no drive'}, below {above}")


def devices(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    """Yield the devices and arrays that take no writes, may lose them, or mend nothing."""
    unread = []
    for name in facts.table("device_states"):
        try:
            found = facts.device_state(name)
            if READ_ONLY in found and not _bears_data(facts, declared, name):
                found = tuple(text for text in found if text != READ_ONLY)
        except UnknownFact as reason:
            unread.append(str(reason))
            continue
        if found:
            yield Finding(f"device:{name}", ", ".join(found))
    speed = facts.rebuild_speed_kib
    if speed is not None and speed < SLOWEST_REBUILD_KIB and not declared.declares("sysctl:dev.raid.speed_limit_max"):
        yield Finding("sysctl:dev.raid.speed_limit_max", f"at most {speed} KiB/s for a rebuild")
    yield from _monitor(facts, declared)
    if unread:
        raise UnknownFact("; ".join(unread[:3]))


def _bears_data(facts: Facts, declared: HostDeclaration, name: str) -> bool:
    """Return whether a device is a declared drive, a part of one, an array, or an open encrypted volume."""
    serials = {drive.serial for drive in declared.host.drives}
    names = [drive.name for drive in facts.drives if drive.serial in serials]
    names += [array.name for array in facts.arrays]
    names += [mapping.name for mapping in facts.mappings]
    return any(re.fullmatch(rf"{re.escape(each)}(p?[0-9]+)?", name) for each in names)


def _monitor(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    """Yield the monitor of arrays if it does not run beside one."""
    running = [array.name for array in facts.arrays if array.array_state not in ("clear", "inactive")]
    unit = facts.unit(MONITOR)
    if not running or unit is None or declared.declares(f"unit:{MONITOR}"):
        return
    state = "masked" if unit.enabled.startswith("masked") else unit.active
    if state not in ("active", "activating", "reloading"):
        yield Finding(f"unit:{MONITOR}", f"{state}: nothing reports that a member of {', '.join(running[:3])} fails")


RULES = (
    Rule(
        "RW-150",
        "Mounted filesystems take writes and keep them, and nothing else is mounted below a tier.",
        "filesystems",
        "Jobs wait for a frozen filesystem for good; without a journal or barriers a power cut loses what was written.",
        f"Look with `findmnt`, then run `fsfreeze --unfreeze`, mount it with usual options, or unmount it, {ADMIT}",
        "fsfreeze(8); ext4(5); xfs(5)",
        filesystems,
        scope="kernel",
    ),
    Rule(
        "RW-151",
        "Devices and arrays take writes, keep them, and are watched.",
        "devices",
        "A read-only or suspended device stops jobs, a cache without flushes loses data, a frozen array mends nothing.",
        f"Find out who changed it, then write the usual value below /sys/block, or start the unit, {ADMIT}",
        "Linux, Documentation/block/writeback_cache_control.rst, Documentation/admin-guide/md.rst; mdadm(8)",
        devices,
        scope="kernel",
    ),
)
