"""Views of drives, arrays, filesystems and mounts of a host."""

from collections.abc import Callable
from functools import cached_property
from typing import Any, Literal, TypeVar

from rackwright.facts import content
from rackwright.facts.view import Fact, UnknownFact, View, malformed_value, optional, optional_number, texts
from rackwright.schema.units import format_time

T = TypeVar("T")


class Signature(View):
    """A signature that identifies the content of a drive, a partition or an array."""

    type = Fact(str, "Type in libblkid's words: ext4, gpt, linux_raid_member.")
    uuid = Fact(optional, "UUID; None for a type without one.")
    label = Fact(optional, "Label; None without one.")


class Superblock(View):
    """The md superblock on a drive, which names its array whether or not that array runs."""

    array_uuid = Fact(str, "UUID in mdadm's form: four groups of 8 hex digits.")
    array_name = Fact(str, "``host:name`` as written at creation.")
    level = Fact(str, "RAID level: raid5.")
    devices = Fact(int, "Number of members of the complete array.")
    events = Fact(int, "Number of the array's changes that this member saw; the highest is the newest.")
    data_offset_bytes = Fact(int, "Offset of the drive's share of the array.")


class HealthFacts(View):
    """The health that a drive reports; None for a value that the drive does not count."""

    passed = Fact(bool, "Verdict of the drive itself; for NVMe, that it has no critical warning.")
    pending_sectors = Fact(optional_number, "Unreadable sectors that wait for a rewrite; only ATA drives count them.")
    media_errors = Fact(optional_number, "Number of reads and writes that failed for good.")
    wear_percent = Fact(optional_number, "Used share of the rated writes, may exceed 100; 0 for a rotational drive.")


class DriveFacts(View):
    """One physical disk (for NVMe: one namespace)."""

    name = Fact(str, "Current kernel name: nvme0n1.")
    path = Fact(str, "Path of the device: /dev/nvme0n1.")
    serial = Fact(str, "Serial number; ends with ``_<namespace>`` if the controller has several namespaces.")
    bus = Fact(str, "nvme, sas, sata, virtio, usb.")
    size_bytes = Fact(int, "Size in bytes.")
    rotational = Fact(bool, "Whether it has turning disks.")
    model = Fact(str, "Product name.")
    holders = Fact(texts, "Kernel names of the devices on top of the drive or its partitions.")
    mountpoints = Fact(texts, "Mount points of the drive and its partitions; [SWAP] for swap space.")
    sample = Fact(texts, "Digests of ``first MiB``, ``data`` and ``last MiB``, unless zero; unknown while in use.")

    @property
    def signatures(self) -> tuple[Signature, ...]:
        return self.rows("signatures", Signature)

    @property
    def superblock(self) -> Superblock | None:
        raw = self.read("superblock")
        return None if raw is None else Superblock(raw, f"{self._where}.superblock")

    @property
    def health(self) -> HealthFacts:
        return HealthFacts(self.read("health"), f"{self._where}.health")

    @property
    def content(self) -> str:
        """Content of the drive, in the words that a consent repeats; empty for a blank drive. See facts.content."""
        return self._read(content.describe)

    @property
    def content_after_wipe(self) -> str:
        """Content of the drive after a wipe, in the same words."""
        return self._read(content.describe_after_wipe)

    @property
    def unwitnessed_content(self) -> tuple[str, ...]:
        """Parts of the content in which no later write shows, except in the kernel's count of writes."""
        return tuple(self._read(content.unwitnessed_parts))

    def _read(self, reader: Callable[[dict[str, Any]], T]) -> T:
        try:
            return reader(dict(self._raw))
        except content.UnknownContent as reason:
            raise UnknownFact(f"{self._where}.{reason}") from None
        except (ValueError, TypeError, KeyError, AttributeError):
            raise malformed_value(f"{self._where}: a part of its content") from None


Condition = Literal["optimal", "syncing", "rebuilding", "reshaping", "interrupted", "degraded", "failed", "inactive"]
"""Condition of an array. *interrupted*: a reshape began and no process continues it."""


class MemberFacts(View):
    """A member of a running array."""

    name = Fact(str, "Kernel name; the drive may no longer be in the machine.")
    slot = Fact(optional_number, "Number of its place in the array; None for a member without one, such as a spare.")
    state = Fact(texts, "md's words: in_sync, faulty, spare, write_mostly.")
    names_array = Fact(optional, "UUID of the array that its superblock names now; None without a superblock.")


class Array(View):
    """One md array that the kernel knows, running or not."""

    name = Fact(str, "Current kernel name: md127.")
    uuid = Fact(str, "UUID of the array.")
    md_name = Fact(str, "``host:name`` from the superblock.")
    level = Fact(str, "RAID level: raid5.")
    devices = Fact(int, "Number of members of the complete array.")
    chunk_bytes = Fact(int, "Chunk size; 0 for a level without chunks.")
    metadata = Fact(str, "Version of the superblock: 1.2.")
    bitmap = Fact(str, "internal, file or none.")
    ppl = Fact(bool, "Whether the array keeps a partial parity log (RAID5 only).")
    member_bytes = Fact(int, "Used size of each member.")
    size_bytes = Fact(int, "Usable size in bytes.")
    array_size = Fact(str, "default, or the size in KiB to which an operator cut it until the next assembly.")
    array_state = Fact(str, "md's word: clear, inactive, readonly, clean, active, broken.")
    sync_action = Fact(str, "md's word: idle, resync, recover, check, repair, reshape.")
    sync_completed = Fact(str, "``sectors / sectors`` or none.")
    sync_speed_kib = Fact(int, "Speed of each member in the last seconds, in KiB/s.")
    sync_speed_max_kib = Fact(int, "Speed limit in KiB/s; 0 for the limit of the system.")
    sync_min = Fact(int, "Sector of each member at which the next check begins; 0 after a complete one.")
    sync_max = Fact(str, "Sector of each member at which a sync or check waits, or ``max`` for none.")
    reshape_position = Fact(str, "Progress of a reshape in sectors of the array; none without a reshape.")
    degraded = Fact(int, "Number of missing members.")
    mismatch_count = Fact(int, "Sectors that differed in the last check; 0 if they were corrected then.")

    @cached_property
    def members(self) -> tuple[MemberFacts, ...]:
        return self.rows("members", MemberFacts)

    @property
    def spares(self) -> tuple[MemberFacts, ...]:
        """Spare members without a slot."""
        return tuple(member for member in self.members if member.slot is None and "spare" in member.state)

    @property
    def occupied_slots(self) -> int:
        """Number of slots with a member that works or is being rebuilt."""
        return len({member.slot for member in self.members if "faulty" not in member.state} - {None})

    @cached_property
    def condition(self) -> Condition:
        """Condition of the array in one word; a first sync and a rebuild onto a full set of members differ."""
        if self.array_state in ("clear", "inactive"):
            return "inactive"
        if self.array_state == "broken" or self.degraded > self._tolerated_losses():
            return "failed"
        if self.level == "raid0":
            return "optimal"
        working = [member for member in self.members if "faulty" not in member.state and member.slot is not None]
        in_sync = sum("in_sync" in member.state for member in working)
        whole = self.degraded == 0
        match self.sync_action:
            case "reshape" if whole:
                return "reshaping"
            case "resync":
                return "syncing"
            case "recover" if len(working) == self.devices:
                # mdadm creates RAID5 by a rebuild onto its last member: the work and the redundancy are the same
                return "rebuilding"
        if not whole or in_sync != self.devices:
            return "degraded"
        # older probes do not read the reshape position
        return "interrupted" if self._raw.get("reshape_position", "none") not in ("none", "") else "optimal"

    @property
    def is_busy(self) -> bool:
        """Whether md syncs, rebuilds or reshapes the array, and therefore refuses a new size or shape."""
        return self.condition in ("syncing", "rebuilding", "reshaping") or self.sync_action == "recover"

    def _tolerated_losses(self) -> int:
        """Return how many members may fail; for RAID10 the best case, with two copies of all data."""
        tolerated = {"raid1": self.devices - 1, "raid4": 1, "raid5": 1, "raid6": 2, "raid10": self.devices // 2}
        return tolerated.get(self.level, 0)

    @property
    def progress(self) -> str | None:
        """Progress of a sync, rebuild or reshape, and the time left at the speed of the last seconds; None at rest."""
        position, _, total = self.sync_completed.partition(" / ")
        if not total:
            return None
        percent = f"{100 * int(position) / int(total):.1f} %"
        speed = self.sync_speed_kib
        return f"{percent}, {format_time((int(total) - int(position)) / 2 / speed)} left" if speed else percent


class Filesystem(View):
    """A filesystem, mounted or not, as its superblock describes it."""

    device = Fact(str, "Kernel name of its device.")
    type = Fact(str, "ext4 or xfs.")
    uuid = Fact(str, "UUID of the filesystem.")
    complete = Fact(bool, "False after an interrupted mkfs.")
    size_bytes = Fact(int, "Size in bytes.")
    stripe_unit_bytes = Fact(int, "Stripe unit; 0 for none.")
    stripe_width_bytes = Fact(int, "Stripe width over all data disks; 0 for none.")


class CryptMapping(View):
    """An open dm-crypt mapping, which encrypts all writes to its underlying devices."""

    name = Fact(str, "Current kernel name: dm-0.")
    mapped_name = Fact(str, "Name below /dev/mapper.")
    on = Fact(texts, "Kernel names of the underlying devices.")
    size_bytes = Fact(int, "Size in bytes.")


class LuksHeader(View):
    """A LUKS header, as far as it is readable without a key."""

    device = Fact(str, "Kernel name of its device; a copy in a file has none.")
    uuid = Fact(str, "UUID of the header.")
    version = Fact(int, "Version of LUKS: 2.")
    sequence = Fact(int, "Number of changes of the header.")
    key_slots = Fact(int, "Number of keys that open it.")
    data_offset_bytes = Fact(int, "Offset of the encrypted data.")


class Credential(View):
    """A key in a file that systemd has sealed, so that the file alone reveals nothing."""

    sealed_by = Fact(str, "Seal: tpm2 or other.")
    opens = Fact(bool, "Whether this machine can open it now.")
    digest = Fact(str, "Keyed blake2s of the key.")


class Mount(View):
    """A mounted filesystem."""

    target = Fact(str, "Directory at which it is mounted.")
    device = Fact(optional, "Kernel name of the block device, None for others.")
    type = Fact(str, "Type of the filesystem: xfs, tmpfs, nfs4.")
    options = Fact(texts, "Options of the mount and of the filesystem.")

    @property
    def root(self) -> str:
        """The directory of the filesystem that is mounted: / or a path below it. Older probes did not write it."""
        return self.value("root", str)

    @property
    def part(self) -> str:
        """The directory of the filesystem that is mounted in place of the whole, in brackets as findmnt(8) shows it.

        Empty for the whole; older probes did not tell.
        """
        try:
            return "" if self.root == "/" else f"[{self.root}]"
        except UnknownFact:
            return ""


class SwapArea(View):
    """An active swap area."""

    path = Fact(str, "Path of the file or device.")
    type = Fact(str, "file or partition.")


class HostStorage(View):
    """The storage of a host: drives, and what is on them."""

    rebuild_speed_kib = Fact(optional_number, "Limit for rebuilds of arrays in KiB/s; None without md.")

    def filesystem_state(self, target: str) -> tuple[str, ...]:
        """Return how a mounted filesystem differs from one that keeps what it was given; empty if it does not."""
        return texts(self.find("filesystem_states", target) or ())

    def device_state(self, name: str) -> tuple[str, ...]:
        """Return how a device differs from one that takes and keeps what is written to it; empty if it does not."""
        return texts(self.find("device_states", name) or ())

    @cached_property
    def swaps(self) -> tuple[SwapArea, ...]:
        return self.rows("swaps", SwapArea, "path")

    @cached_property
    def drives(self) -> tuple[DriveFacts, ...]:
        return self.rows("drives", DriveFacts, "name")

    @cached_property
    def arrays(self) -> tuple[Array, ...]:
        return self.rows("arrays", Array, "name")

    @cached_property
    def filesystems(self) -> tuple[Filesystem, ...]:
        return self.rows("filesystems", Filesystem, "device")

    @cached_property
    def mappings(self) -> tuple[CryptMapping, ...]:
        return self.rows("mappings", CryptMapping, "name")

    @cached_property
    def luks_headers(self) -> tuple[LuksHeader, ...]:
        return self.rows("luks_headers", LuksHeader, "device")

    @cached_property
    def mounts(self) -> tuple[Mount, ...]:
        return self.rows("mounts", Mount, "target")

    def drive(self, serial: str) -> DriveFacts | None:
        """Return the drive with this serial; None if every drive reports its serial and no drive has this one."""
        reason_unknown = None
        for drive in self.drives:
            try:
                if drive.serial == serial:
                    return drive
            except UnknownFact as reason:
                reason_unknown = reason
        if reason_unknown:
            raise reason_unknown
        return None

    def luks_copy(self, path: str) -> LuksHeader | None:
        """Return the copy of a LUKS header at *path*; None if there is none."""
        return self.entry("luks_copies", path, LuksHeader)

    def credential(self, path: str) -> Credential | None:
        """Return the sealed key at *path*; None if there is none."""
        return self.entry("credentials", path, Credential)
