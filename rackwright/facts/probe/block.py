"""Drives, arrays, filesystems and mounts: all that is stacked on block devices."""

from __future__ import annotations

import hashlib
import json
import os
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, Iterator

from rackwright.facts.probe import health, signature_check, superblocks
from rackwright.facts.probe.observe import (
    ReadError,
    attempt,
    known,
    listing,
    number,
    read,
    read_any,
    tool,
    unknown,
)
from rackwright.facts.probe.superblocks import KIB, MIB

NO_DRIVE = re.compile(r"(loop|ram|zram|md|dm-|sr|nbd|fd|zd|drbd|rbd|bcache|mtdblock)\d")
UNREDUNDANT = ("raid0", "linear")
LUKS_COPIES = "/etc/rackwright/tiers"
"""Where copies of LUKS headers are, each called ``*.header``."""
BLOCK = 4 * KIB
SAMPLES, SAMPLE_BYTES = 48, 64 * KIB
FILESYSTEM_KEYS = ("complete", "size_bytes", "stripe_unit_bytes", "stripe_width_bytes")
"""Values in the superblock of a filesystem."""
MOST_PARTITIONS = 32
"""A consent is read by a person: a drive with more of them is freed by hand."""
ASKED_AT_ONCE = 8
"""Drives about their health: each takes a moment, and a hanging one a minute."""


class Machine:
    """The block devices of the system whose files lie below *root*, as the kernel names them."""

    def __init__(self, root: str) -> None:
        self.root = root
        names = sorted(os.listdir(f"{root}/sys/block"))
        self.drives = [name for name in names if not NO_DRIVE.match(name) and self._is_there(name)]
        self.arrays = [name for name in names if re.match(r"md(\d|_)", name) and self._is_array(name)]
        self.mappings = [name for name in names if read_any(f"{self.sys(name)}/dm/uuid").startswith("CRYPT-")]
        self.mounts = attempt(mounts, root)
        self.swaps = attempt(swaps, root)
        self.signatures = signatures(self)

    def _is_there(self, name: str) -> bool:
        """Leave out the paths of a multipath NVMe drive (the drive itself is listed too) and empty card readers."""
        folder = self.sys(name)
        hidden, removable = read_any(f"{folder}/hidden"), read_any(f"{folder}/removable")
        return hidden != "1" and not (removable == "1" and self.size(name) == 0)

    def _is_array(self, name: str) -> bool:
        """Leave out what is left of a stopped array, and what the kernel makes when somebody opens its device anew."""
        return read_any(f"{self.sys(name)}/md/array_state") != "clear"

    def sys(self, name: str) -> str:
        return f"{self.root}/sys/class/block/{name}"

    def path(self, name: str) -> str:
        return f"{self.root}/dev/{name.replace('!', '/')}"

    def size(self, name: str) -> int:
        return number(f"{self.sys(name)}/size") * 512

    def with_parts(self, drive: str) -> list[str]:
        folder = self.sys(drive)
        return [drive, *(name for name in listing(folder) if os.path.exists(f"{folder}/{name}/partition"))]


def drives(machine: Machine) -> list[dict[str, Any]]:
    with ThreadPoolExecutor(ASKED_AT_ONCE) as pool:
        told = pool.map(lambda name: attempt(health.health, machine.path(name)), machine.drives)
        found = [*pool.map(lambda name: drive(machine, name), machine.drives)]
        return [{**each, "health": state} for each, state in zip(found, told)]


def drive(machine: Machine, name: str) -> dict[str, Any]:
    folder, found = machine.sys(name), machine.signatures[name]
    holders, mountpoints = attempt(holders_of, machine, name), attempt(mountpoints_of, machine, name)
    used = attempt(users_of, machine, name)
    free = used if "unknown" in used else unknown(f"in use by {', '.join(used)}") if used else None

    def unless_used(look: Callable[..., Any], *arguments: Any) -> Any:
        return free or attempt(look, *arguments)

    erased = unless_used(erased_data, machine, name)
    return {
        "name": name,
        "path": f"/dev/{name.replace('!', '/')}",
        "serial": attempt(serial, machine, name),
        "bus": attempt(bus, folder, name),
        "size_bytes": attempt(machine.size, name),
        "rotational": attempt(lambda: read(f"{folder}/queue/rotational") == "1"),
        "model": attempt(read_any, f"{folder}/device/model"),
        "wwn": attempt(read_any, f"{folder}/wwid", f"{folder}/device/wwid"),
        "partitions": attempt(lambda: machine.with_parts(name)[1:]),
        "holders": holders,
        "mountpoints": mountpoints,
        "signatures": found,
        "superblock": attempt(superblock, machine.path(name), found),
        "sample": unless_used(sample, machine, name),
        **({} if free or erased is None else {"erased_data": erased}),
        "witnesses": unless_used(witnesses, machine, name),
        "parts": unless_used(partitions, machine, name),
        "held": unless_used(arrays_on, machine, name),
        "writes": attempt(writes, machine, name),
    }


def serial(machine: Machine, name: str) -> str:
    """Return the serial as printed on the drive, with ``_<namespace>`` where its controller has several."""
    folder = machine.sys(name)
    if name.startswith("nvme"):
        controller = os.path.realpath(f"{folder}/device")
        shared = sum(os.path.realpath(f"{machine.sys(other)}/device") == controller for other in machine.drives) > 1
        number = read(f"{folder}/device/serial")
        found = f"{number}_{read(f'{folder}/nsid')}" if number and shared else number
    else:
        found = page_80(f"{folder}/device/vpd_pg80") or read_any(f"{folder}/serial") or udev_serial(machine, name)
    if not found:
        raise ReadError(f"neither {name} nor udev tells a serial")
    return found


def page_80(path: str) -> str:
    """Return the serial of a SCSI vital product data page, empty where there is no such page."""
    if not os.path.exists(path):
        return ""
    with open(path, "rb") as file:
        page = file.read()
    return page[4 : 4 + int.from_bytes(page[2:4], "big")].decode("ascii", "replace").strip("\0 ")


def udev_serial(machine: Machine, name: str) -> str:
    record = read_any(f"{machine.root}/run/udev/data/b{read(f'{machine.sys(name)}/dev')}")
    words = dict(line[2:].split("=", 1) for line in record.splitlines() if line.startswith("E:") and "=" in line)
    return words.get("ID_SCSI_SERIAL") or words.get("ID_SERIAL_SHORT") or ""


def bus(folder: str, name: str) -> str:
    if name.startswith("nvme"):
        return "nvme"
    place = os.path.realpath(f"{folder}/device")
    for part, found in (("/usb", "usb"), ("/ata", "sata")):
        if re.search(part + r"\d", place):
            return found
    if read_any(f"{folder}/device/vendor") == "ATA":  # a SATA drive on a SAS controller
        return "sata"
    for part, found in (("/end_device-", "sas"), ("/virtio", "virtio"), ("/mmc", "mmc"), ("/host", "scsi")):
        if re.search(part + r"\d", place):
            return found
    raise ReadError(f"{place} is on no bus known here")


def holders_of(machine: Machine, drive: str) -> list[str]:
    return sorted({holder for name in machine.with_parts(drive) for holder in listing(f"{machine.sys(name)}/holders")})


def mountpoints_of(machine: Machine, drive: str) -> list[str]:
    names = machine.with_parts(drive)
    swapped = ["[SWAP]" for name in names if name in known(machine.swaps)]
    return [mount["target"] for mount in known(machine.mounts) if mount["device"] in names] + swapped


def superblock(path: str, signatures: Any) -> dict[str, Any] | None:
    """Return the first md superblock among *signatures*, None where there is none."""
    offsets = (found["offset"] for found in known(signatures) if found["type"] == "linux_raid_member")
    return next((superblocks.md(path, offset) for offset in offsets), None)


def users_of(machine: Machine, drive: str) -> list[str]:
    """Return what may write to *drive*. An md array that is not used itself does not: udev assembles what it finds."""
    users = mountpoints_of(machine, drive)
    for holder in holders_of(machine, drive):
        if not holder.startswith("md") or users_of(machine, holder):
            users.append(holder)
    return users


def arrays_on(machine: Machine, name: str) -> list[str]:
    """Return the UUIDs of the arrays that hold a drive or its partitions."""
    holders = (f"{machine.sys(holder)}/md" for holder in holders_of(machine, name))
    return sorted({known(superblock_of_member(machine, md))["array_uuid"] for md in holders})


def writes(machine: Machine, name: str) -> str:
    """Return how much was written to a drive since the kernel has it; any write changes it, be it to a partition.

    Another start of the machine, or of the drive, is another count.
    """
    folder = machine.sys(name)
    reads, sectors = (int(read(f"{folder}/stat").split()[place]) for place in (0, 6))
    if read_any(f"{folder}/queue/iostats") == "0" or reads == 0:  # it has been read just now
        raise ReadError("the kernel does not count what is written to it")
    attached = f"{read(f'{machine.root}/proc/sys/kernel/random/boot_id')} {os.stat(machine.path(name)).st_ino}"
    return f"{sectors} sectors written since {hashlib.blake2b(attached.encode(), digest_size=4).hexdigest()}"


def witnesses(machine: Machine, name: str) -> list[str | None]:
    """Return for each signature the digest of what each mount or write changes; see superblocks.witness."""
    rows = known(machine.signatures[name])
    return [superblocks.witness(machine.path(name), row["type"], row["offset"]) for row in rows]


def partitions(machine: Machine, drive: str) -> list[dict[str, Any]]:
    """Return the content of each partition of an unused drive."""
    names = machine.with_parts(drive)[1:]
    if len(names) > MOST_PARTITIONS:
        raise ReadError(f"{len(names)} partitions; of more than {MOST_PARTITIONS} none is looked at")
    found = []
    for name in sorted(names, key=lambda name: number(f"{machine.sys(name)}/partition")):
        found.append(
            {
                "place": f"p{number(f'{machine.sys(name)}/partition')}",
                "size_bytes": machine.size(name),
                "signatures": known(machine.signatures[name]),
                "witnesses": witnesses(machine, name),
                "sample": sample(machine, name, ("first MiB", "last MiB")),
            }
        )
    return found


def sample(machine: Machine, name: str, parts: tuple[str, ...] = ("first MiB", "data", "last MiB")) -> list[str]:
    """Return a digest of each part of a drive or partition that is not all zero where it is looked at.

    The parts are told apart because a wipe clears the ends and leaves what is between as it is.
    """
    path = machine.path(name)
    places = sample_places(superblocks.size_of(path))
    digests = {part: _digest(path, places[part]) for part in parts}
    return [f"{part} {digest}" for part, digest in digests.items() if digest]


def erased_data(machine: Machine, name: str) -> str | None:
    """Return the sample between the ends as it will be once a wipe has cleared what is on partitions there.

    None where that clears nothing of it.
    """
    size, path = machine.size(name), machine.path(name)
    cleared = [(begin, end) for begin, end in erased_ranges(machine, name) if begin > 0 and end < size]
    places = sample_places(superblocks.size_of(path))["data"]
    if not any(begin < place + SAMPLE_BYTES and place < end for begin, end in cleared for place in places):
        return None
    digest = _digest(path, places, cleared)
    return f"data {digest}" if digest else ""


def erased_ranges(machine: Machine, drive: str) -> list[tuple[int, int]]:
    """Return which bytes of a drive a wipe clears, in that order: each holds whole parts of its content.

    These are both ends of each partition and of the drive, and what libblkid has seen elsewhere. The ends of the drive
    come last, the first of them at the very end: the partitions are known by it.
    """
    size = machine.size(drive)
    found = []
    for name in [*machine.with_parts(drive)[1:], drive]:
        start = 0 if name == drive else number(f"{machine.sys(name)}/start") * 512
        length = machine.size(name)
        ends = [(0, min(MIB, length)), (max(length - MIB, 0), length)]
        seen = [row["offset"] // BLOCK * BLOCK for row in known(machine.signatures[name])]
        seen = [place for place in seen if MIB <= place < length - MIB]
        found += [
            (start + a, min(start + b, size)) for a, b in (*ends, *((place, place + BLOCK) for place in seen)) if a < b
        ]
    merged: list[tuple[int, int]] = []
    for begin, end in sorted(found):
        if merged and begin < merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((begin, end))
    return sorted(merged, key=lambda place: (place[0] == 0, place[1] >= size, place))


def _digest(path: str, places: list[int], cleared: list[tuple[int, int]] | None = None) -> str:
    """Return a digest of what stands at *places*, empty where that is all zero; *cleared* ranges count as zeros."""
    digest, blank = hashlib.blake2b(digest_size=8), True
    for offset in places:
        content = superblocks.read_at(path, offset, SAMPLE_BYTES)
        for begin, end in cleared or ():
            low, high = max(begin - offset, 0), min(end - offset, len(content))
            if low < high:
                content = content[:low] + bytes(high - low) + content[high:]
        if content != bytes(len(content)):
            blank = False
            digest.update(b"%d " % offset + content)
    return "" if blank else digest.hexdigest()


def sample_places(size: int) -> dict[str, list[int]]:
    """Return where to look on a drive of *size* bytes: all of its first and last MiB, and evenly between them."""
    last = max(size - SAMPLE_BYTES, 0)
    ends = range(0, MIB, SAMPLE_BYTES)
    between = (last * place // (SAMPLES + 1) // 512 * 512 for place in range(1, SAMPLES + 1))
    return {
        "first MiB": sorted({min(near, last) for near in ends}),
        "data": [place for place in between if MIB <= place <= last - MIB],
        "last MiB": sorted({max(last - near, 0) for near in ends}),
    }


def signatures(machine: Machine) -> dict[str, Any]:
    """Return for each drive, partition, array and open mapping all that libblkid finds on it, wherever it stands.

    One run looks at all devices; where one of them spoils it, each gets a run of its own.
    """
    names = [part for drive in machine.drives for part in machine.with_parts(drive)]
    running = [array for array in machine.arrays if attempt(machine.size, array) != 0 and not waits(machine, array)]
    names += [part for array in running for part in machine.with_parts(array)] + machine.mappings
    for name in names:
        attempt(superblocks.forget_ends, machine.path(name))
    found = attempt(wipefs, machine, names)
    if "unknown" in found:
        found = {name: attempt(lambda: wipefs(machine, [name])[name]) for name in names}  # noqa: B023
    return {name: attempt(signature_check.check, machine, name, found[name]) for name in names}


def waits(machine: Machine, array: str) -> bool:
    """Whether a reshape was cut off and goes on with the first write: RAID10 is read where nothing is any more then."""
    state, position = (read_any(f"{machine.sys(array)}/md/{file}") for file in ("array_state", "reshape_position"))
    return state == "read-auto" and position not in ("", "none")


def wipefs(machine: Machine, names: list[str]) -> dict[str, Any]:
    """Return what libblkid finds on each device.

    The last device is a file of our own with a known signature: an answer without it is no answer.
    """
    found: dict[str, Any] = {name: [] for name in names}
    if not names:
        return found
    columns = "DEVICE,OFFSET,TYPE,USAGE,UUID,LABEL"
    sample = signature_check.sample()
    try:
        paths = (*map(machine.path, names), f"/proc/self/fd/{sample}")
        printed = tool("wipefs", "--no-act", "--json", "--output", columns, "--", *paths, passes=(sample,))
    finally:
        os.close(sample)
    try:
        rows = json.loads(printed)["signatures"]
        seen = [(row.pop("device").replace("/", "!"), {**row, "offset": int(row["offset"], 16)}) for row in rows]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise ReadError("what wipefs prints is not its JSON, or not all of it") from None
    if not seen or seen[-1] != (str(sample), signature_check.SAMPLE):
        raise ReadError("wipefs does not find a signature that is there")
    for name, signature in seen[:-1]:
        if name not in found:
            raise ReadError(f"wipefs tells of {name}, which is no device that it was asked about")
        found[name].append(signature)
    return found


def arrays(machine: Machine) -> list[dict[str, Any]]:
    return [array(machine, name) for name in machine.arrays]


def array(machine: Machine, name: str) -> dict[str, Any]:
    md = f"{machine.sys(name)}/md"
    level = attempt(read, f"{md}/level")
    own = attempt(superblock_of_member, machine, md)
    whole = level in UNREDUNDANT  # such a level has no redundancy, thus no bitmap, no sync and no files about them

    def redundancy(file: str, without: Any, convert: Any = str) -> Any:
        return without if whole else attempt(lambda: convert(read(f"{md}/{file}")))

    return {
        "name": name,
        "uuid": own.get("array_uuid", own),
        "md_name": own.get("array_name", own),
        "level": level or unknown(f"{md}/level is empty"),
        "devices": attempt(number, f"{md}/raid_disks"),
        "chunk_bytes": attempt(number, f"{md}/chunk_size"),
        "metadata": attempt(read, f"{md}/metadata_version"),
        "bitmap": redundancy("bitmap/location", "none", bitmap),
        "ppl": redundancy("consistency_policy", False, lambda policy: policy == "ppl"),
        "member_bytes": attempt(lambda: number(f"{md}/component_size") * KIB),
        "size_bytes": attempt(machine.size, name),
        "array_state": attempt(read, f"{md}/array_state"),
        "sync_action": redundancy("sync_action", "idle"),
        "sync_completed": redundancy("sync_completed", "none"),
        "sync_speed_kib": redundancy("sync_speed", 0, lambda text: 0 if text == "none" else int(text)),
        "sync_speed_max_kib": redundancy("sync_speed_max", 0, speed_cap),
        "reshape_position": attempt(read_any, f"{md}/reshape_position") or "none",
        "degraded": redundancy("degraded", 0, int),
        "mismatch_count": redundancy("mismatch_cnt", 0, int),
        "array_size": attempt(read, f"{md}/array_size"),
        "members": attempt(members, machine, md),
    }


def superblock_of_member(machine: Machine, md: str) -> dict[str, Any]:
    """Return an array's superblock: that with the UUID that the kernel has, else the one of most members.

    Another array's superblock may have been written to a member. Linux 6.1 tells the UUID, older kernels may not.
    """
    metadata = read(f"{md}/metadata_version")
    found = [attempt(superblocks.md_member, machine.path(entry[4:]), metadata) for entry in listing(md, "dev-*")]
    there = [block for block in found if "unknown" not in block]
    uuids = [block["array_uuid"] for block in there]
    if not there:
        return found[0] if found else unknown(f"{md} has no members")
    own = read_any(f"{md}/uuid").replace("-", "")
    return max(there, key=lambda block: (block["array_uuid"].replace(":", "") == own, uuids.count(block["array_uuid"])))


def bitmap(location: str) -> str:
    return location if location == "none" else "internal" if location[0] in "+-" else "file"


def speed_cap(text: str) -> int:
    """``50000 (local)`` is a cap of this array, ``200000 (system)`` is none."""
    value, _, whose = text.partition(" ")
    return 0 if whose == "(system)" else int(value)


def members(machine: Machine, md: str) -> list[dict[str, Any]]:
    metadata = read(f"{md}/metadata_version")
    return [
        {
            "name": entry[4:],
            "slot": attempt(lambda: None if (slot := read(f"{md}/{entry}/slot")) == "none" else int(slot)),  # noqa: B023
            "state": attempt(lambda: [word for word in read(f"{md}/{entry}/state").split(",") if word]),  # noqa: B023
            "names_array": attempt(superblocks.md_array_of_member, machine.path(entry[4:]), metadata),
        }
        for entry in listing(md, "dev-*")
    ]


def mappings(machine: Machine) -> list[dict[str, Any]]:
    """Return what dm-crypt has open."""
    return [mapping(machine, name) for name in machine.mappings]


def mapping(machine: Machine, name: str) -> dict[str, Any]:
    folder = machine.sys(name)
    return {
        "name": name,
        "mapped_name": attempt(read, f"{folder}/dm/name"),
        "uuid": attempt(read, f"{folder}/dm/uuid"),
        "on": attempt(listing, f"{folder}/slaves"),
        "size_bytes": attempt(machine.size, name),
    }


def luks_headers(machine: Machine) -> list[dict[str, Any]]:
    """Return the LUKS headers on drives, partitions and arrays, each once; what cannot be read of one says so."""
    uuids = {name: signature["uuid"] for name, signature in carried(machine) if signature["type"] == "crypto_LUKS"}
    headers = [{"device": name, "uuid": uuid, **luks_header(machine.path(name))} for name, uuid in uuids.items()]
    keys = ("uuid", "version", "sequence", "key_slots", "data_offset_bytes")
    return headers + [{"device": name, **dict.fromkeys(keys, reason)} for name, reason in unseen(machine).items()]


def luks_header(path: str) -> dict[str, Any]:
    own = attempt(superblocks.luks, path)
    keys = ("version", "sequence", "key_slots", "data_offset_bytes")
    return dict.fromkeys(keys, own) if "unknown" in own else own


def luks_copies(root: str) -> dict[str, Any]:
    """Return the copies of LUKS headers by their paths."""
    paths = [f"{LUKS_COPIES}/{name}" for name in listing(root + LUKS_COPIES, "*.header")]
    return {path: attempt(superblocks.luks, root + path) for path in paths}


def carried(machine: Machine) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each signature and where it stands; not those inside members, which belong to the array."""
    for name, found in machine.signatures.items():
        if isinstance(found, list) and not any(signature["usage"] == "raid" for signature in found):
            for signature in found:
                yield name, signature


def unseen(machine: Machine) -> dict[str, Any]:
    """Return the devices whose signatures are unknown, with the reason."""
    return {name: found for name, found in machine.signatures.items() if not isinstance(found, list)}


def filesystems(machine: Machine) -> list[dict[str, Any]]:
    """Return each filesystem; and each device of which it is unknown whether it has one, as one that is unknown."""
    found = [
        filesystem(machine, name, signature)
        for name, signature in carried(machine)
        if signature["usage"] == "filesystem"
    ]
    keys = ("type", "uuid", *FILESYSTEM_KEYS)
    return found + [{"device": name, **dict.fromkeys(keys, reason)} for name, reason in unseen(machine).items()]


def filesystem(machine: Machine, name: str, signature: dict[str, Any]) -> dict[str, Any]:
    head = {"device": name, "type": signature["type"], "uuid": signature["uuid"]}
    readers = {"ext4": superblocks.ext4, "xfs": superblocks.xfs}
    reader = readers.get(signature["type"])
    own = attempt(reader, machine.path(name)) if reader else unknown("read of ext4 and xfs only")
    if "unknown" in own:
        return {**head, **dict.fromkeys(FILESYSTEM_KEYS, own)}
    log = own.pop("log_bytes", 0)
    if signature["type"] == "xfs":
        own["size_bytes"] = attempt(xfs_size, machine, name, own["size_bytes"], log)
    return {**head, **own}


def xfs_size(machine: Machine, name: str, written: int, log: int) -> int:
    """Return the bytes of an XFS: as its superblock has it *written*, which a mounted one does long after it has grown.

    Args:
        log: Bytes of it that are no space for files.
    """
    mounted = [mount["target"] for mount in known(machine.mounts) if mount["device"] == name]
    return space(machine.root + mounted[-1]) + log if mounted else written


def space(mountpoint: str) -> int:
    """Return all bytes that the filesystem there counts, free or not; of XFS that is all but its log."""
    told = os.statvfs(mountpoint)
    return told.f_blocks * told.f_frsize


def mounts(root: str) -> list[dict[str, Any]]:
    found = []
    for line in read(f"{root}/proc/self/mountinfo").splitlines():
        _, _, number, _, target, options, *rest = line.split(" ")
        kind, source, more = rest[rest.index("-") + 1 :][:3]
        found.append(
            {
                "target": unescape(target),
                "device": kernel_name(root, number, unescape(source)),
                "type": kind,
                "options": mount_options(options, more),
            }
        )
    return found


def mount_options(mount: str, filesystem: str) -> list[str]:
    """Return both sorts of options, each once; a read-only mount of a writable filesystem is read-only."""
    options = {*mount.split(","), *filesystem.split(",")}
    return sorted(options - {"rw"} if "ro" in options else options)


def kernel_name(root: str, number: str, source: str) -> str | None:
    """Return the block device behind a mount; btrfs hides its number, but names it as the source."""
    link = f"{root}/sys/dev/block/{number}"
    if os.path.exists(link):
        return os.path.basename(os.path.realpath(link))
    named = os.path.basename(os.path.realpath(f"{root}{source}")) if source.startswith("/dev/") else ""
    return named if named and os.path.exists(f"{root}/sys/class/block/{named}") else None


def swaps(root: str) -> list[str]:
    lines = read(f"{root}/proc/swaps").splitlines()[1:]
    return [os.path.basename(os.path.realpath(root + unescape(line.split()[0]))) for line in lines]


def unescape(text: str) -> str:
    """Undo the kernel's octal escapes of blanks: ``\\040``."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)
