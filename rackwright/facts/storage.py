"""What a host stores on: views of drives, arrays, filesystems and mounts."""

from collections.abc import Callable
from typing import Any, Literal, TypeVar

from rackwright.facts import content
from rackwright.facts.view import Fact, UnknownFact, View, optional, optional_number, texts
from rackwright.schema.units import format_time

T = TypeVar("T")


class Signature(View):
    """Something that says what a drive, a partition or an array carries."""

    type = Fact(str, "As libblkid says it: ext4, gpt, linux_raid_member.")
    uuid = Fact(optional)
    label = Fact(optional)


class Superblock(View):
    """The md superblock on a drive: which array it belonged to, whether or not that array runs."""

    array_uuid = Fact(str, "In mdadm's form: 8 hex digits, 4 times.")
    array_name = Fact(str, "``host:name`` as written at creation.")
    level = Fact(str)
    devices = Fact(int)
    events = Fact(int)
    data_offset_bytes = Fact(int, "Where the drive's share of the array begins.")


class Health(View):
    """What a drive tells of its own state; None for what it does not count."""

    passed = Fact(bool, "Its own verdict; of NVMe, that it warns of nothing.")
    pending_sectors = Fact(optional_number, "Could not be read, and wait to be written anew. ATA alone counts them.")
    media_errors = Fact(optional_number, "How often it could not give back, or take, what it should.")
    wear_percent = Fact(optional_number, "Of the writes it was made for, above 100 too; 0 for one that turns.")


class Drive(View):
    """One physical disk (for NVMe: one namespace)."""

    name = Fact(str, "The kernel's name of today: nvme0n1.")
    path = Fact(str)
    serial = Fact(str, "With ``_<namespace>`` where a controller has several.")
    bus = Fact(str, "nvme, sas, sata, virtio, usb.")
    size_bytes = Fact(int)
    rotational = Fact(bool)
    model = Fact(str)
    holders = Fact(texts, "Kernel names of what is stacked on it or its parts.")
    mountpoints = Fact(texts, "Of the drive and its partitions; swap is [SWAP].")
    sample = Fact(texts, "``first MiB``, ``data``, ``last MiB`` where not zero, and a digest; unknown while in use.")

    @property
    def signatures(self) -> tuple[Signature, ...]:
        return self.rows("signatures", Signature)

    @property
    def superblock(self) -> Superblock | None:
        raw = self.read("superblock")
        return None if raw is None else Superblock(raw, f"{self._where}.superblock")

    @property
    def health(self) -> Health:
        return Health(self.read("health"), f"{self._where}.health")

    @property
    def content(self) -> str:
        """Its content, in the words that a consent repeats; empty for a blank drive. See facts.content."""
        return self._read(content.content)

    @property
    def content_once_erased(self) -> str:
        """Its content after a wipe, in the same words."""
        return self._read(content.once_erased)

    @property
    def unnoticed(self) -> tuple[str, ...]:
        """Parts of its content that show no later write, except in the kernel's count of writes."""
        return tuple(self._read(content.unnoticed))

    def _read(self, reader: Callable[[dict[str, Any]], T]) -> T:
        try:
            return reader(dict(self._raw))
        except content.UnknownContent as reason:
            raise UnknownFact(f"{self._where}.{reason}") from None


Condition = Literal["optimal", "syncing", "rebuilding", "reshaping", "interrupted", "degraded", "failed", "inactive"]
"""*interrupted*: a reshape was begun, and nobody goes on with it."""


class Member(View):
    """A drive's place in a running array."""

    name = Fact(str, "Kernel name; the drive may be gone from the machine.")
    slot = Fact(optional_number)
    state = Fact(texts, "md's words: in_sync, faulty, spare, write_mostly.")
    names_array = Fact(optional, "UUID of the array that the superblock on it names now; None where it has none.")


class Array(View):
    """One md array that the kernel knows, running or not."""

    name = Fact(str, "The kernel's name of today: md127.")
    uuid = Fact(str)
    md_name = Fact(str, "``host:name`` from the superblock.")
    level = Fact(str)
    devices = Fact(int, "How many members it should have.")
    chunk_bytes = Fact(int, "0 where the level has none.")
    metadata = Fact(str)
    bitmap = Fact(str, "internal, file or none.")
    ppl = Fact(bool, "Whether it keeps a partial parity log, as RAID5 can.")
    member_bytes = Fact(int, "What is used of each member.")
    size_bytes = Fact(int)
    array_size = Fact(str, "default, or KiB to which its size was cut by hand until it is assembled again.")
    array_state = Fact(str)
    sync_action = Fact(str)
    sync_completed = Fact(str, "``sectors / sectors`` or none.")
    sync_speed_kib = Fact(int, "KiB/s of each member, of the last seconds.")
    sync_speed_max_kib = Fact(int, "KiB/s; 0: the system's.")
    reshape_position = Fact(str, "In sectors of the array, how far a reshape is; none while there is none.")
    degraded = Fact(int, "How many members are missing.")
    mismatch_count = Fact(int)

    @property
    def members(self) -> tuple[Member, ...]:
        return self.rows("members", Member)

    @property
    def spares(self) -> tuple[Member, ...]:
        """Those that wait for a place."""
        return tuple(member for member in self.members if member.slot is None and "spare" in member.state)

    @property
    def places_taken(self) -> int:
        """How many places have somebody in them that works, or is being written."""
        return len({member.slot for member in self.members if "faulty" not in member.state} - {None})

    @property
    def condition(self) -> Condition:
        """One word for its health; a first sync and a rebuild onto a full set of members are told apart."""
        if self.array_state in ("clear", "inactive"):
            return "inactive"
        if self.array_state == "broken" or self.degraded > self._spare_at_most():
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
                # RAID5 is made by rebuilding onto its last member: the same work, and the same safety meanwhile
                return "rebuilding"
        if not whole or in_sync != self.devices:
            return "degraded"
        # older probes have not looked for one
        return "interrupted" if self._raw.get("reshape_position", "none") not in ("none", "") else "optimal"

    @property
    def is_busy(self) -> bool:
        """Whether md writes to its members for their own sake, and gives it neither another size nor another shape."""
        return self.condition in ("syncing", "rebuilding", "reshaping") or self.sync_action == "recover"

    def _spare_at_most(self) -> int:
        """Return how many members it can do without; of RAID10 at best, with two copies of everything."""
        can = {"raid1": self.devices - 1, "raid4": 1, "raid5": 1, "raid6": 2, "raid10": self.devices // 2}
        return can.get(self.level, 0)

    @property
    def progress(self) -> str | None:
        """How far a sync, rebuild or reshape is, and when it ends at the speed of the last seconds; None at rest."""
        done, _, total = self.sync_completed.partition(" / ")
        if not total:
            return None
        told = f"{100 * int(done) / int(total):.1f} %"
        speed = self.sync_speed_kib
        return f"{told}, {format_time((int(total) - int(done)) / 2 / speed)} left" if speed else told


class Filesystem(View):
    """A filesystem read from its superblock, mounted or not."""

    device = Fact(str, "Kernel name of what carries it.")
    type = Fact(str)
    uuid = Fact(str)
    complete = Fact(bool, "False: mkfs was cut off.")
    size_bytes = Fact(int)
    stripe_unit_bytes = Fact(int, "0 for none.")
    stripe_width_bytes = Fact(int, "Over all data disks; 0 for none.")


class CryptMapping(View):
    """What dm-crypt has open: what is written to it is encrypted on its way to what it stands on."""

    name = Fact(str, "The kernel's name of today: dm-0.")
    mapped_name = Fact(str, "Its name below /dev/mapper.")
    on = Fact(texts, "Kernel names of what it stands on.")
    size_bytes = Fact(int)


class LuksHeader(View):
    """What says how a device is encrypted, as far as it can be read without a key."""

    device = Fact(str, "Kernel name of what carries it; a copy in a file has none.")
    uuid = Fact(str)
    version = Fact(int)
    sequence = Fact(int, "Counts each change of the header.")
    key_slots = Fact(int, "How many keys open it.")
    data_offset_bytes = Fact(int, "Where what it encrypts begins.")


class Credential(View):
    """A key in a file that tells nothing by itself, as systemd has it sealed."""

    sealed_by = Fact(str, "tpm2 or other.")
    opens = Fact(bool, "Whether this machine opens it now.")
    digest = Fact(str, "Keyed blake2s of what is in it.")


class Mount(View):
    """A mounted filesystem."""

    target = Fact(str)
    device = Fact(optional, "Kernel name of the block device, None for others.")
    type = Fact(str)
    options = Fact(texts, "Of the mount and of the filesystem.")
