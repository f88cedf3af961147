"""The properties of a tier as the facts have them."""

import re
from collections.abc import Collection

from rackwright.core.contract import Absent, Claim, UnknownValue, Value
from rackwright.errors import command
from rackwright.facts.facts import Facts
from rackwright.facts.storage import Array, CryptMapping, Filesystem, LuksHeader, Mount, Superblock
from rackwright.facts.view import UnknownFact
from rackwright.kinds.shared import observation
from rackwright.kinds.tier import commands, scrub
from rackwright.kinds.tier.spec import MAPPER, TIERS

MOUNT_FLAGS = {
    "rw",
    "ro",
    "nosuid",
    "nodev",
    "noexec",
    "relatime",
    "noatime",
    "nodiratime",
    "sync",
    "dirsync",
    "lazytime",
}
"""Options of the mount itself, compared whatever was declared. Source: mount(8), filesystem-independent options."""


USUAL_OPTIONS = {
    "ext4": re.compile(
        r"rw|relatime|stripe=\d+|seclabel|data=ordered|user_xattr|acl|barrier=1|errors=(continue|remount-ro)"
    ),
    "xfs": re.compile(
        r"rw|relatime|seclabel|attr2|inode64|noquota|logbufs=\d+|logbsize=\d+k|sunit=\d+|swidth=\d+|barrier"
    ),
}
"""Options that the kernel shows for a mount without options, by filesystem: defaults, and what the superblock says.

Sources: Linux 4.9 to 6.12, fs/ext4/super.c, _ext4_show_options; fs/xfs/xfs_super.c, xfs_fs_show_options. Older kernels
show some defaults that later ones do not.
"""
MEMBER_FLAGS = ("write_mostly", "failfast", "blocked")
"""Words of md's state of a member that change how md uses it. Source: Linux, Documentation/admin-guide/md.rst."""
UNSEEN = "a reshape was cut off, and what is on the array is not seen before it goes on"
UNFILLED_OF_LUKS_BYTES = 1 << 20
"""More than the part of a sector that cannot be encrypted."""
UNFILLED_BYTES = 32 << 20
"""More than filesystems leave at the end: mkfs.xfs up to 16 MiB, for no allocation group of XFS is smaller."""


def find_array(facts: Facts, key: str) -> Array | None:
    """Return the array the kernel knows by *key*, an md name or a UUID, running or not."""
    return next((array for array in facts.arrays if key in (array.md_name, array.uuid)), None)


def find_carrier(facts: Facts, key: str) -> Array | CryptMapping | None:
    """Return the device that bears a filesystem: the array known by *key*, or the mapping open under that path."""
    if not key.startswith(MAPPER):
        return find_array(facts, key)
    return next((mapping for mapping in facts.mappings if f"{MAPPER}{mapping.mapped_name}" == key), None)


def filesystem_on(facts: Facts, carrier: Array | CryptMapping) -> Filesystem | None:
    return next((filesystem for filesystem in facts.filesystems if filesystem.device == carrier.name), None)


def header_on(facts: Facts, array: Array) -> LuksHeader | None:
    return next((header for header in facts.luks_headers if header.device == array.name), None)


def ambiguous_signatures(facts: Facts, carrier: Array | CryptMapping) -> UnknownValue | None:
    """Return that a device has several signatures, none of which can be taken for its content; None if it has one."""
    types = [filesystem.type for filesystem in facts.filesystems if filesystem.device == carrier.name]
    if facts.has("luks_headers"):  # older probes have not looked for any
        types += ["LUKS" for header in facts.luks_headers if header.device == carrier.name]
    if len(types) < 2:
        return None
    return UnknownValue(
        f"{carrier.name} has {len(types)} signatures, {' and '.join(sorted(types))}: which of them is alive cannot be"
        f" known; look with {command('wipefs --no-act {}', f'/dev/{carrier.name}')},"
        " and take the other one away by its offset"
    )


def mapping_on(facts: Facts, array: Array) -> CryptMapping | None:
    """Return the open mapping of an encrypted array."""
    return next((mapping for mapping in facts.mappings if array.name in mapping.on), None)


def members_of(facts: Facts, array: Array) -> tuple[str, ...]:
    """Return the serials of the drives that are in *array* and in the machine, sorted.

    A member that is being copied onto its successor has left its place to that. Members that share a place show it: md
    itself forgets that one is to be replaced when the host restarts.
    """
    serials = {drive.name: drive.serial for drive in facts.drives}
    succeeded = {member.slot for member in array.members if "replacement" in member.state}
    working = [
        member.name
        for member in array.members
        if "faulty" not in member.state and ("replacement" in member.state or member.slot not in succeeded)
    ]
    return tuple(sorted(serials[name] for name in working if name in serials))


def lingering_members(facts: Facts, array: Array, key: str, declared: Collection[str]) -> tuple[str, ...]:
    """Return the serials of the drives whose places others have, and which no unit on the host lets go, sorted.

    The unit ends when the host restarts, and md goes on with the copy after that.
    """
    serials = {drive.name: drive.serial for drive in facts.drives}
    listed = {serials[member.name] for member in array.members if member.name in serials}
    replaced = listed - {*members_of(facts, array), *declared}
    return () if replaced and waits_for_md(facts, commands.waiting_unit("replace", key)) else tuple(sorted(replaced))


def lost_superblocks(facts: Facts, array: Array) -> tuple[str, ...] | UnknownValue:
    """Return the serials of the members that bear no superblock of *array*, each with what it bears instead."""
    if array.condition == "inactive":
        return UnknownValue("the array does not run")
    drives = {drive.name: drive for drive in facts.drives}
    working = [member for member in array.members if "faulty" not in member.state and member.name in drives]
    texts = []
    for member in working:
        if member.names_array == array.uuid:
            continue
        drive = drives[member.name]
        other = [] if member.names_array is None else [f"array {member.names_array}"]
        other += [each.type for each in drive.signatures if each.type != "linux_raid_member"]
        texts.append(f"{drive.serial} ({', '.join(other)})" if other else drive.serial)
    return tuple(sorted(texts))


def waiting_spares(facts: Facts, array: Array) -> tuple[str, ...]:
    """Return the serials of the drives that wait in *array* for a place, sorted."""
    serials = {drive.name: drive.serial for drive in facts.drives}
    return tuple(sorted(serials[spare.name] for spare in array.spares if spare.name in serials))


def mount_at(facts: Facts, target: str) -> Mount | None:
    """Return the mount at *target*: the last of those stacked there."""
    return next((mount for mount in reversed(facts.mounts) if mount.target == target), None)


def observe(facts: Facts, sort: str, key: str, name: str, claim: Claim) -> Value:
    """Return the actual value of a property of the thing ``sort:key``."""
    match sort:
        case "host":
            return observation.identity(facts, name)
        case "drive":
            return observation.drive(facts, key, name)
        case "md":
            return _observe_array(facts, key, name, claim)
        case "luks":
            return _observe_luks(facts, key, name)
        case "credential":
            return _observe_credential(facts, key, name)
        case "filesystem":
            return _observe_filesystem(facts, key, name)
        case "mount":
            return _observe_mount(facts, key, name, claim)
        case "scrubs":
            return scrub.foreign_scrubs(facts)
        case "file" if "initramfs" not in claim.want:
            return observation.file(facts, key, name)
        case "unit" if "content" not in claim.want:
            return observation.unit(facts, key, name)
        case "file" | "unit":
            return _observe_file(facts, sort, key, name, claim)
        case _:
            return observation.owner(facts, key, name)


def _observe_array(facts: Facts, key: str, name: str, claim: Claim) -> Value:
    array = find_array(facts, key)
    if array is None:
        return Absent()
    match name:
        case "level":
            return array.level
        case "devices":
            return array.devices
        case "spares_waiting":
            return len(array.spares)
        case "mismatch_count":
            return array.mismatch_count
        case "members":
            declared = claim.want["members"]
            assert isinstance(declared, tuple)
            return tuple(sorted((*members_of(facts, array), *lingering_members(facts, array, key, declared))))
        case "superblocks_lost":
            return lost_superblocks(facts, array)
        case "array_size":
            return array.array_size
        case "metadata":
            return array.metadata
        case "chunk_kib":
            return array.chunk_bytes // 1024
        case "bitmap":
            return array.bitmap
        case "ppl":
            return array.ppl
        case "member_flags":
            return _member_flags(facts, array)
        case "scrub":
            return _scrub_state(array)
        case "sync_limit":
            # mdadm moves the limit ahead of a reshape
            is_free = array.sync_max == "max" or array.condition in ("reshaping", "interrupted")
            return "none" if is_free else f"{array.sync_max} sectors"
        case "member_kib":
            return _member_kib(facts, array, key, claim)
        case "sync_speed_max_kib":
            return array.sync_speed_max_kib
        case _:
            return array.condition


def _member_flags(facts: Facts, array: Array) -> tuple[str, ...]:
    """Return the members that md uses in another way than it does by default, each with md's word."""
    serials = {drive.name: drive.serial for drive in facts.drives}
    flags = [
        f"{serials.get(member.name, member.name)} {word}"
        for member in array.members
        for word in MEMBER_FLAGS
        if word in member.state
    ]
    return tuple(sorted(flags))


def _scrub_state(array: Array) -> str:
    """Return whether the last check of an array ended before its end; a running one is complete so far."""
    return "interrupted" if array.sync_action in ("idle", "frozen") and array.sync_min else "complete"


def _member_kib(facts: Facts, array: Array, key: str, claim: Claim) -> Value:
    """Return the size that is used of each member; the declared one if it is larger, and md takes it once it rests."""
    used, declared = array.member_bytes // 1024, claim.want["member_kib"]
    if not isinstance(declared, int) or used >= declared:
        return used
    return declared if array.is_busy or waits_for_md(facts, commands.waiting_unit("enlarge", key)) else used


def waits_for_md(facts: Facts, unit: str) -> bool:
    """Return whether *unit* waits on the host for md to rest."""
    service = facts.unit(f"{unit}.service")
    return service is not None and service.active in ("active", "activating")


def _observe_luks(facts: Facts, key: str, name: str) -> Value:
    array = find_array(facts, key)
    if array is None or array.condition == "inactive":
        return UnknownValue("the array does not run")
    if array.condition == "interrupted":
        return UnknownValue(UNSEEN)
    if several := ambiguous_signatures(facts, array):
        return several
    header, mapping = header_on(facts, array), mapping_on(facts, array)
    if header is None:
        return Absent()
    tier = key.partition(":")[2]
    match name:
        case "version":
            return header.version
        case "noted":
            return (facts.owner(f"tier-{tier}") or {}).get("luks") == header.uuid
        case "mapping":
            return Absent() if mapping is None else mapping.mapped_name
        case "fills_array":
            room = array.size_bytes - header.data_offset_bytes
            return room - mapping.size_bytes < UNFILLED_OF_LUKS_BYTES if mapping else UnknownValue("it is not open")
        case "key_slots":
            return header.key_slots
        case _:
            copy = facts.luks_copy(f"{TIERS}/{tier}.header")
            return Absent() if copy is None else (copy.uuid, copy.sequence) == (header.uuid, header.sequence)


def _observe_credential(facts: Facts, path: str, name: str) -> Value:
    credential = facts.credential(path)
    if credential is None:
        return Absent()
    match name:
        case "sealed_by":
            return credential.sealed_by
        case "opens":
            return credential.opens
        case _:
            return credential.digest


def _observe_filesystem(facts: Facts, key: str, name: str) -> Value:
    carrier = find_carrier(facts, key)
    if carrier is None or (isinstance(carrier, Array) and carrier.condition == "inactive"):
        return UnknownValue("it is not open" if key.startswith(MAPPER) else "the array does not run")
    if isinstance(carrier, Array) and carrier.condition == "interrupted":
        return UnknownValue(UNSEEN)
    if several := ambiguous_signatures(facts, carrier):
        return several
    filesystem = filesystem_on(facts, carrier)
    if filesystem is None or not filesystem.complete:
        return Absent()
    match name:
        case "type":
            return filesystem.type
        case "stripe_kib":
            return filesystem.stripe_unit_bytes // 1024
        case "fills_array":
            return carrier.size_bytes - filesystem.size_bytes < UNFILLED_BYTES
        case _:
            return filesystem.stripe_width_bytes // 1024


def _observe_mount(facts: Facts, target: str, name: str, claim: Claim) -> Value:
    if name == "swap_files":
        return tuple(sorted(swap.path for swap in facts.swaps if swap.path.startswith(f"{target.rstrip('/')}/")))
    mount = mount_at(facts, target)
    if mount is None:
        return () if name == "undeclared_options" else Absent()
    match name:
        case "type":
            return mount.type
        case "source" if str(claim.want["source"]).startswith(MAPPER):
            open_as = (f"{MAPPER}{each.mapped_name}" for each in facts.mappings if each.name == mount.device)
            return next(open_as, mount.device or mount.type) + mount.part
        case "source":
            array = next((array for array in facts.arrays if array.name == mount.device), None)
            if array is None:
                return (mount.device or mount.type) + mount.part
            return (array.uuid if claim.want["source"] == array.uuid else array.md_name or array.uuid) + mount.part
        case "undeclared_options":
            return _undeclared_options(mount, claim)
        case _:
            wanted = claim.want["options"]
            assert isinstance(wanted, tuple)
            keys = {option.split("=")[0] for option in wanted}
            return tuple(
                sorted({option for option in mount.options if option in MOUNT_FLAGS or option.split("=")[0] in keys})
            )


def _undeclared_options(mount: Mount, claim: Claim) -> tuple[str, ...]:
    """Return the options of a mount that are neither declared nor usual, and are no words of MOUNT_FLAGS."""
    wanted = claim.want["options"]
    assert isinstance(wanted, tuple)
    declared, usual = {option.split("=")[0] for option in wanted}, USUAL_OPTIONS.get(str(claim.want["type"]))
    return tuple(
        option
        for option in mount.options
        if option not in MOUNT_FLAGS
        and option.split("=")[0] not in declared
        and not (usual and usual.fullmatch(option))
    )


def _observe_file(facts: Facts, sort: str, key: str, name: str, claim: Claim) -> Value:
    path = key if sort == "file" else f"/etc/systemd/system/{key}"
    if name == "state":
        unit = facts.unit(key)
        return Absent() if unit is None else unit.enabled
    file = facts.file(path)
    if file is None:
        return Absent()
    match name:
        case "mode":
            return file.mode
        case "owner":
            return file.owner
        case "initramfs":
            times = tuple(facts.initramfs_times())
            return "none" if not times else "current" if min(times) >= file.mtime_ns else "stale"
        case _:
            text = facts.text(path)
            return file.digest if text is None else restore_references(text, str(claim.want["content"]), facts)


def restore_references(text: str, wanted: str, facts: Facts) -> str:
    """Return *text* with the UUIDs that *wanted* refers to put back as those references.

    Raises:
        UnknownFact: an array that *wanted* refers to cannot be read now.
    """
    for reference, sort, key in re.findall(r"(\$\{(array|filesystem):([^}]+)\})", wanted):
        text = text.replace(array_uuid(facts, key) if sort == "array" else filesystem_uuid(facts, key), reference)
    return text


def find_superblocks(facts: Facts, key: str) -> dict[str, Superblock]:
    """Return serial to superblock of the drives that say they belong to the array *key*, whether or not it runs."""
    blocks = ((drive.serial, drive.superblock) for drive in facts.drives)
    return {serial: block for serial, block in blocks if block and key in (block.array_name, block.array_uuid)}


def array_uuid(facts: Facts, key: str) -> str:
    array = find_array(facts, key)
    if array is not None:
        return array.uuid
    uuids = {block.array_uuid for block in find_superblocks(facts, key).values()}
    if len(uuids) != 1:
        raise UnknownFact(f"no array {key} is there to compare with")
    return uuids.pop()


def filesystem_uuid(facts: Facts, key: str) -> str:
    carrier = find_carrier(facts, key)
    filesystem = filesystem_on(facts, carrier) if carrier else None
    if filesystem is None:
        raise UnknownFact(f"no filesystem on {key} is there to compare with")
    return filesystem.uuid
