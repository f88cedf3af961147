"""Block devices: drives, filesystems and mounts."""

from __future__ import annotations

import hashlib
import json
import os
import re
from typing import Any, Callable, Iterator

from rackwright.facts.probe import arrays, health, signature_check, superblocks
from rackwright.facts.probe.observe import (
    ReadError,
    attempt,
    listing,
    number,
    read,
    read_any,
    run_tool,
    unknown_value,
    unwrap,
)
from rackwright.facts.probe.superblocks import KIB, MIB

NO_DRIVE = re.compile(r"(loop|ram|zram|md|dm-|sr|nbd|fd|zd|drbd|rbd|bcache|mtdblock)\d")
BLOCK = 4 * KIB
SAMPLES, SAMPLE_BYTES = 48, 64 * KIB
FILESYSTEM_KEYS = ("complete", "size_bytes", "stripe_unit_bytes", "stripe_width_bytes")
"""Values that come from the superblock of a filesystem."""
MOST_PARTITIONS = 32
"""Maximum number of partitions in a consent, which a person reads; an operator empties a drive with more by hand."""
HEALTH_WORKERS = 8
"""Number of drives whose health is read in parallel: each takes a moment, and a hanging drive takes a minute."""


CONTAINER_MARKS = ("/run/systemd/container", "/run/.containerenv", "/.dockerenv")
"""Files in a container that systemd, podman and Docker write."""


class BlockDevices:
    """The block devices of the system whose files are below *root*, by their kernel names."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.in_container = any(os.path.exists(root + mark) for mark in CONTAINER_MARKS)
        names = [name for name in sorted(os.listdir(f"{root}/sys/block")) if self._is_own(name)]
        self.drives = [name for name in names if not NO_DRIVE.match(name) and self._is_there(name)]
        self.arrays = [name for name in names if re.match(r"md(\d|_)", name) and self._is_array(name)]
        self.mappings = [name for name in names if read_any(f"{self.sys(name)}/dm/uuid").startswith("CRYPT-")]
        self.mounts = attempt(mounts, root)
        self.swaps = attempt(swaps, root)
        self.signatures = signatures(self)

    def _is_own(self, name: str) -> bool:
        """Return False in a container for a device of its computer: sysfs shows all devices, and /dev its own."""
        return not self.in_container or os.path.exists(self.path(name))

    def _is_there(self, name: str) -> bool:
        """Return False for the paths of a multipath NVMe drive, which is listed itself, and for empty card readers."""
        folder = self.sys(name)
        hidden, removable = read_any(f"{folder}/hidden"), read_any(f"{folder}/removable")
        return hidden != "1" and not (removable == "1" and self.size(name) == 0)

    def _is_array(self, name: str) -> bool:
        """Return False for the remains of a stopped array, and for the empty array that appears if its node is open."""
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


def drives(machine: BlockDevices) -> list[dict[str, Any]]:
    if not machine.drives:
        if not machine.in_container and (root := root_device(machine)):
            raise ReadError(f"/sys/class/block has no drive, and / is on {root}")
        return []
    from concurrent.futures import ThreadPoolExecutor  # a container has no drives, and the module takes 7 ms

    with ThreadPoolExecutor(HEALTH_WORKERS) as pool:
        states = pool.map(lambda name: attempt(health.health, machine.path(name)), machine.drives)
        rows = [*pool.map(lambda name: drive(machine, name), machine.drives)]
        return [{**row, "health": state} for row, state in zip(rows, states)]


def drive(machine: BlockDevices, name: str) -> dict[str, Any]:
    folder, signatures = machine.sys(name), machine.signatures[name]
    holders, mountpoints = attempt(holders_of, machine, name), attempt(mountpoints_of, machine, name)
    users = attempt(users_of, machine, name)
    in_use = users if "unknown" in users else unknown_value(f"in use by {', '.join(users)}") if users else None

    def unless_in_use(reader: Callable[..., Any], *arguments: Any) -> Any:
        return in_use or attempt(reader, *arguments)

    after_wipe = unless_in_use(erased_data, machine, name)
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
        "signatures": signatures,
        "superblock": attempt(superblock, machine.path(name), signatures),
        "sample": unless_in_use(sample, machine, name),
        **({} if in_use or after_wipe is None else {"erased_data": after_wipe}),
        "witnesses": unless_in_use(witnesses, machine, name),
        "parts": unless_in_use(partitions, machine, name),
        "held": unless_in_use(arrays_on, machine, name),
        "writes": attempt(writes, machine, name),
    }


def serial(machine: BlockDevices, name: str) -> str:
    """Return the serial as printed on the drive, with ``_<namespace>`` if its controller has several namespaces."""
    folder = machine.sys(name)
    if name.startswith("nvme"):
        controller = os.path.realpath(f"{folder}/device")
        is_shared = sum(os.path.realpath(f"{machine.sys(other)}/device") == controller for other in machine.drives) > 1
        number = read(f"{folder}/device/serial")
        text = f"{number}_{read(f'{folder}/nsid')}" if number and is_shared else number
    else:
        text = page_80(f"{folder}/device/vpd_pg80") or read_any(f"{folder}/serial") or udev_serial(machine, name)
    if not text:
        raise ReadError(f"neither {name} nor udev reports a serial")
    return text


def page_80(path: str) -> str:
    """Return the serial in a SCSI vital product data page; empty if there is no such page."""
    if not os.path.exists(path):
        return ""
    with open(path, "rb") as file:
        page = file.read()
    return page[4 : 4 + int.from_bytes(page[2:4], "big")].decode("ascii", "replace").strip("\0 ")


def udev_serial(machine: BlockDevices, name: str) -> str:
    record = read_any(f"{machine.root}/run/udev/data/b{read(f'{machine.sys(name)}/dev')}")
    words = dict(line[2:].split("=", 1) for line in record.splitlines() if line.startswith("E:") and "=" in line)
    return words.get("ID_SCSI_SERIAL") or words.get("ID_SERIAL_SHORT") or ""


def bus(folder: str, name: str) -> str:
    if name.startswith("nvme"):
        return "nvme"
    device_path = os.path.realpath(f"{folder}/device")
    for part, name_of_bus in (("/usb", "usb"), ("/ata", "sata")):
        if re.search(part + r"\d", device_path):
            return name_of_bus
    if read_any(f"{folder}/device/vendor") == "ATA":  # a SATA drive on a SAS controller
        return "sata"
    for part, name_of_bus in (("/end_device-", "sas"), ("/virtio", "virtio"), ("/mmc", "mmc"), ("/host", "scsi")):
        if re.search(part + r"\d", device_path):
            return name_of_bus
    raise ReadError(f"{device_path} is on a bus that the probe does not know")


def holders_of(machine: BlockDevices, drive: str) -> list[str]:
    return sorted({holder for name in machine.with_parts(drive) for holder in listing(f"{machine.sys(name)}/holders")})


def mountpoints_of(machine: BlockDevices, drive: str) -> list[str]:
    names = machine.with_parts(drive)
    swap_marks = ["[SWAP]" for name in names if name in unwrap(machine.swaps)]
    return [mount["target"] for mount in unwrap(machine.mounts) if mount["device"] in names] + swap_marks


def superblock(path: str, signatures: Any) -> dict[str, Any] | None:
    """Return the first md superblock among *signatures*; None if there is none."""
    offsets = (signature["offset"] for signature in unwrap(signatures) if signature["type"] == "linux_raid_member")
    return next((superblocks.md(path, offset) for offset in offsets), None)


def users_of(machine: BlockDevices, drive: str) -> list[str]:
    """Return the users that may write to *drive*. An unused md array is none: udev assembles every array it detects."""
    users = mountpoints_of(machine, drive)
    for holder in holders_of(machine, drive):
        if not holder.startswith("md") or users_of(machine, holder):
            users.append(holder)
    return users


def arrays_on(machine: BlockDevices, name: str) -> list[str]:
    """Return the UUIDs of the arrays that hold a drive or its partitions."""
    holders = (f"{machine.sys(holder)}/md" for holder in holders_of(machine, name))
    return sorted({unwrap(arrays.superblock_of_member(machine, md))["array_uuid"] for md in holders})


def writes(machine: BlockDevices, name: str) -> str:
    """Return how much was written to a drive and its partitions since the kernel attached it; every write changes it.

    Each boot of the machine and each attachment of the drive starts another count.
    """
    folder = machine.sys(name)
    reads, sectors = (int(read(f"{folder}/stat").split()[column]) for column in (0, 6))
    if read_any(f"{folder}/queue/iostats") == "0" or reads == 0:  # the probe itself has just read the drive
        raise ReadError("the kernel does not count what is written to it")
    attachment = f"{read(f'{machine.root}/proc/sys/kernel/random/boot_id')} {os.stat(machine.path(name)).st_ino}"
    return f"{sectors} sectors written since {hashlib.blake2b(attachment.encode(), digest_size=4).hexdigest()}"


def witnesses(machine: BlockDevices, name: str) -> list[str | None]:
    """Return for each signature a digest of data that each mount or write changes; see superblocks.witness."""
    rows = unwrap(machine.signatures[name])
    return [superblocks.witness(machine.path(name), row["type"], row["offset"]) for row in rows]


def partitions(machine: BlockDevices, drive: str) -> list[dict[str, Any]]:
    """Return the content of each partition of an unused drive."""
    names = machine.with_parts(drive)[1:]
    if len(names) > MOST_PARTITIONS:
        raise ReadError(f"{len(names)} partitions; the probe reads none of more than {MOST_PARTITIONS}")
    rows = []
    for name in sorted(names, key=lambda name: number(f"{machine.sys(name)}/partition")):
        rows.append(
            {
                "place": f"p{number(f'{machine.sys(name)}/partition')}",
                "size_bytes": machine.size(name),
                "signatures": unwrap(machine.signatures[name]),
                "witnesses": witnesses(machine, name),
                "sample": sample(machine, name, ("first MiB", "last MiB")),
            }
        )
    return rows


def sample(machine: BlockDevices, name: str, parts: tuple[str, ...] = ("first MiB", "data", "last MiB")) -> list[str]:
    """Return a digest of each part of a drive or partition whose samples are not all zero.

    The parts have separate digests because a wipe clears the ends and leaves the data between them unchanged.
    """
    path = machine.path(name)
    offsets = sample_places(superblocks.size_of(path))
    digests = {part: _digest(path, offsets[part]) for part in parts}
    return [f"{part} {digest}" for part, digest in digests.items() if digest]


def erased_data(machine: BlockDevices, name: str) -> str | None:
    """Return the sample between the ends of a drive as it will be after a wipe has cleared the partitions there.

    None means that a wipe clears nothing of the sample.
    """
    size, path = machine.size(name), machine.path(name)
    ranges = [(begin, end) for begin, end in erased_ranges(machine, name) if begin > 0 and end < size]
    offsets = sample_places(superblocks.size_of(path))["data"]
    if not any(begin < offset + SAMPLE_BYTES and offset < end for begin, end in ranges for offset in offsets):
        return None
    digest = _digest(path, offsets, ranges)
    return f"data {digest}" if digest else ""


def erased_ranges(machine: BlockDevices, drive: str) -> list[tuple[int, int]]:
    """Return the byte ranges of a drive that a wipe clears, in the order of the wipe; each covers whole content parts.

    The ranges are both ends of each partition and of the drive, and other places where libblkid reports a signature.
    The ends of the drive come last, and its start after its end: the start holds the partition table.
    """
    size = machine.size(drive)
    ranges = []
    for name in [*machine.with_parts(drive)[1:], drive]:
        start = 0 if name == drive else number(f"{machine.sys(name)}/start") * 512
        length = machine.size(name)
        ends = [(0, min(MIB, length)), (max(length - MIB, 0), length)]
        offsets = [row["offset"] // BLOCK * BLOCK for row in unwrap(machine.signatures[name])]
        offsets = [offset for offset in offsets if MIB <= offset < length - MIB]
        ranges += [
            (start + a, min(start + b, size))
            for a, b in (*ends, *((offset, offset + BLOCK) for offset in offsets))
            if a < b
        ]
    merged: list[tuple[int, int]] = []
    for begin, end in sorted(ranges):
        if merged and begin < merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((begin, end))
    return sorted(merged, key=lambda span: (span[0] == 0, span[1] >= size, span))


def _digest(path: str, offsets: list[int], cleared_ranges: list[tuple[int, int]] | None = None) -> str:
    """Return a digest of the data at *offsets*, empty if all zero; bytes in *cleared_ranges* count as zeros."""
    digest, blank = hashlib.blake2b(digest_size=8), True
    for offset in offsets:
        content = superblocks.read_at(path, offset, SAMPLE_BYTES)
        for begin, end in cleared_ranges or ():
            low, high = max(begin - offset, 0), min(end - offset, len(content))
            if low < high:
                content = content[:low] + bytes(high - low) + content[high:]
        if content != bytes(len(content)):
            blank = False
            digest.update(b"%d " % offset + content)
    return "" if blank else digest.hexdigest()


def sample_places(size: int) -> dict[str, list[int]]:
    """Return the offsets of samples on a drive of *size* bytes: all of its first and last MiB, and points between."""
    last = max(size - SAMPLE_BYTES, 0)
    ends = range(0, MIB, SAMPLE_BYTES)
    between = (last * number // (SAMPLES + 1) // 512 * 512 for number in range(1, SAMPLES + 1))
    return {
        "first MiB": sorted({min(distance, last) for distance in ends}),
        "data": [offset for offset in between if MIB <= offset <= last - MIB],
        "last MiB": sorted({max(last - distance, 0) for distance in ends}),
    }


def signatures(machine: BlockDevices) -> dict[str, Any]:
    """Return all signatures that libblkid finds on each drive, partition, array and open mapping, at any offset.

    One run of wipefs reads all devices. If that run fails, each device gets a run of its own.
    """
    names = [part for drive in machine.drives for part in machine.with_parts(drive)]
    running = [
        array
        for array in machine.arrays
        if attempt(machine.size, array) != 0 and not arrays.is_reshape_waiting(machine, array)
    ]
    names += [part for array in running for part in machine.with_parts(array)] + machine.mappings
    for name in names:
        attempt(superblocks.drop_cached_ends, machine.path(name))
    by_device = attempt(wipefs, machine, names)
    if "unknown" in by_device:
        by_device = {name: attempt(lambda: wipefs(machine, [name])[name]) for name in names}  # noqa: B023
    return {name: attempt(signature_check.check, machine, name, by_device[name]) for name in names}


def wipefs(machine: BlockDevices, names: list[str]) -> dict[str, Any]:
    """Return the signatures that libblkid finds on each device.

    The last device is a file of the probe with a known signature: an output without it is refused.
    """
    by_device: dict[str, Any] = {name: [] for name in names}
    if not names:
        return by_device
    columns = "DEVICE,OFFSET,TYPE,USAGE,UUID,LABEL"
    sample = signature_check.sample()
    try:
        paths = (*map(machine.path, names), f"/proc/self/fd/{sample}")
        output = run_tool("wipefs", "--no-act", "--json", "--output", columns, "--", *paths, passes=(sample,))
    finally:
        os.close(sample)
    try:
        rows = json.loads(output)["signatures"]
        signatures = [(row.pop("device").replace("/", "!"), {**row, "offset": int(row["offset"], 16)}) for row in rows]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise ReadError("the output of wipefs is not JSON, or incomplete") from None
    if not signatures or signatures[-1] != (str(sample), signature_check.SAMPLE):
        raise ReadError("wipefs does not find a signature that exists")
    for name, signature in signatures[:-1]:
        if name not in by_device:
            raise ReadError(f"wipefs reports {name}, which is not among its arguments")
        by_device[name].append(signature)
    return by_device


def signatures_by_device(machine: BlockDevices) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each signature with its device; signatures inside array members (they belong to the array) are left out."""
    for name, signatures in machine.signatures.items():
        if isinstance(signatures, list) and not any(signature["usage"] == "raid" for signature in signatures):
            for signature in signatures:
                yield name, signature


def unreadable_devices(machine: BlockDevices) -> dict[str, Any]:
    """Return the devices whose signatures are unknown, each with its unknown value."""
    return {name: signatures for name, signatures in machine.signatures.items() if not isinstance(signatures, list)}


def filesystems(machine: BlockDevices) -> list[dict[str, Any]]:
    """Return each filesystem; a device whose signatures are unknown counts as a filesystem with unknown values."""
    rows = [
        filesystem(machine, name, signature)
        for name, signature in signatures_by_device(machine)
        if signature["usage"] == "filesystem"
    ]
    keys = ("type", "uuid", *FILESYSTEM_KEYS)
    return rows + [
        {"device": name, **dict.fromkeys(keys, reason)} for name, reason in unreadable_devices(machine).items()
    ]


def filesystem(machine: BlockDevices, name: str, signature: dict[str, Any]) -> dict[str, Any]:
    head = {"device": name, "type": signature["type"], "uuid": signature["uuid"]}
    readers = {"ext4": superblocks.ext4, "xfs": superblocks.xfs}
    reader = readers.get(signature["type"])
    values = attempt(reader, machine.path(name)) if reader else unknown_value("the probe reads only ext4 and xfs")
    if "unknown" in values:
        return {**head, **dict.fromkeys(FILESYSTEM_KEYS, values)}
    log = values.pop("log_bytes", 0)
    if signature["type"] == "xfs":
        values["size_bytes"] = attempt(xfs_size, machine, name, values["size_bytes"], log)
    return {**head, **values}


def xfs_size(machine: BlockDevices, name: str, superblock_size: int, log: int) -> int:
    """Return the size of an XFS in bytes; while it is mounted, its superblock shows a growth only much later.

    Args:
        superblock_size: Size in the superblock.
        log: Size of the log, which is no space for files.
    """
    targets = [mount["target"] for mount in unwrap(machine.mounts) if mount["device"] == name]
    return space(machine.root + targets[-1]) + log if targets else superblock_size


def space(mountpoint: str) -> int:
    """Return the total space of a mounted filesystem in bytes; for XFS without its log."""
    status = os.statvfs(mountpoint)
    return status.f_blocks * status.f_frsize


def mounts(root: str) -> list[dict[str, Any]]:
    rows = []
    for line in read(f"{root}/proc/self/mountinfo").splitlines():
        _, _, number, mounted, target, options, *fields = line.split(" ")
        filesystem, source, filesystem_options = fields[fields.index("-") + 1 :][:3]
        rows.append(
            {
                "target": unescape(target),
                "root": unescape(mounted),
                "device": kernel_name(root, number, unescape(source)),
                "type": filesystem,
                "options": mount_options(options, filesystem_options),
            }
        )
    return rows


def mount_options(mount: str, filesystem: str) -> list[str]:
    """Return the options of a mount and of its filesystem, each once; a mount is read-only if either says so."""
    options = {*mount.split(","), *filesystem.split(",")}
    return sorted(options - {"rw"} if "ro" in options else options)


def kernel_name(root: str, number: str, source: str) -> str | None:
    """Return the block device of a mount; btrfs hides its number but names it as the source."""
    link = f"{root}/sys/dev/block/{number}"
    if os.path.exists(link):
        return os.path.basename(os.path.realpath(link))
    name = os.path.basename(os.path.realpath(f"{root}{source}")) if source.startswith("/dev/") else ""
    return name if name and os.path.exists(f"{root}/sys/class/block/{name}") else None


def root_device(machine: BlockDevices) -> str:
    """Return the block device of the root filesystem; empty for one without, such as that of a diskless host."""
    devices = [mount["device"] for mount in unwrap(machine.mounts) if mount["target"] == "/"]
    return devices[-1] or "" if devices else ""


def swaps(root: str) -> list[str]:
    lines = read(f"{root}/proc/swaps").splitlines()[1:]
    return [os.path.basename(os.path.realpath(root + unescape(line.split()[0]))) for line in lines]


def swap_areas(root: str) -> list[dict[str, Any]]:
    """Return the active swap areas, each a file or a block device."""
    rows = [line.split() for line in read(f"{root}/proc/swaps").splitlines()[1:]]
    return [{"path": unescape(row[0]), "type": row[1]} for row in rows]


def unescape(text: str) -> str:
    """Return *text* with the kernel's octal escapes, such as ``\\040`` for a space, decoded."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
