"""The declaration of a tier, with the names and sizes that follow from it alone."""

from pydantic import Field

from rackwright.core.contract import Resource
from rackwright.core.declared import Declared
from rackwright.schema.health import Health
from rackwright.schema.host import Drive
from rackwright.schema.tier import MEMBERS, FilesystemType, Level, Tier, mount_unit, unit_of

MAPPER, TIERS = "/dev/mapper/", "/etc/rackwright/tiers"
HEADROOM = 0.005
"""Share of each member that stays free, so that a spare of the same nominal size, a few MiB smaller, still fits."""

ROOM_KIB = 16 << 10
"""Room in front of the data of each member of an array that can grow, superblock, bitmap and parity log included: md
moves stripes into it, 4 MiB for a growth to 9 members with chunks of 512 KiB. mdadm itself leaves as much from 16 GiB
up, and too little on the small drives of a twin. Source: mdadm 4.2, validate_geometry1() in super1.c."""


class TierSpec(Resource):
    """The declaration of a tier on its host."""

    name: str
    """The name of the tier."""
    fleet: str
    """The name of the fleet, which owns the resource."""
    identity: dict[str, str]
    """The identity of the machine: serial, uuid, bmc_mac or device_tree_serial, as one entry."""
    declared: Declared[Tier]
    """The tier as it is declared."""
    members: tuple[Declared[Drive], ...]
    """Drives for the places of the array."""
    spares: tuple[Declared[Drive], ...] = ()
    """As many drives as wait for a place; md chooses which of all its drives wait."""
    health: Declared[Health] = Health()
    """Thresholds of the health of its drives."""
    wipe: dict[str, str] = Field(default_factory=dict)
    """Consents for its members: serial to the content that may be overwritten."""

    @property
    def level(self) -> Level:
        assert self.declared.level, "a tier that others provide is no resource"
        return self.declared.level

    @property
    def filesystem(self) -> FilesystemType:
        assert self.declared.filesystem, "a tier that others provide is no resource"
        return self.declared.filesystem

    @property
    def destroy(self) -> str | None:
        """The consent to its removal."""
        return self.declared.destroy

    @property
    def id(self) -> str:
        return f"{self.host}/{self.name}"

    @property
    def array_key(self) -> str:
        """The key of its array: the UUID of one that is taken over, else the name in its superblocks."""
        return self.declared.array or f"{self.host}:{self.name}"

    @property
    def array_path(self) -> str:
        """Path under which udev shows the array. Source: mdadm 4.2, udev-md-raid-arrays.rules."""
        return f"/dev/disk/by-id/md-name-{self.array_key}"

    @property
    def array_unit(self) -> str:
        return unit_of(self.array_path, "device")

    @property
    def mapping(self) -> str:
        """Name of the open mapping."""
        return f"tier-{self.name}"

    @property
    def carrier(self) -> str:
        """The key of the device that bears its filesystem: that of the array, or the path of the open mapping."""
        return f"{MAPPER}{self.mapping}" if self.declared.key else self.array_key

    @property
    def device(self) -> str:
        """Reference to the device path of the array, resolved on the host."""
        return f"${{device:{self.array_key}}}"

    @property
    def filesystem_device(self) -> str:
        """Device path of the filesystem, or a reference to it."""
        return self.carrier if self.declared.key else self.device

    @property
    def header_reference(self) -> str | None:
        """Reference to the UUID of the LUKS header; None where the tier is not encrypted."""
        return f"${{luks:{self.array_key}}}" if self.declared.key else None

    @property
    def key_path(self) -> str:
        """Path of its key, as it is or sealed."""
        return f"{TIERS}/{self.name}.{'cred' if self.declared.tpm2 else 'key'}"

    @property
    def other_key_path(self) -> str:
        """Path of its key, if it was declared the other way."""
        return f"{TIERS}/{self.name}.{'key' if self.declared.tpm2 else 'cred'}"

    @property
    def open_key_path(self) -> str:
        """Path of the key in memory, until the TPM has sealed it."""
        return f"/run/rackwright/{self.name}.key"

    @property
    def header_path(self) -> str:
        """Path of the copy of its LUKS header."""
        return f"{TIERS}/{self.name}.header"

    @property
    def unlock_unit(self) -> str:
        return f"unlock-{self.name}.service"

    @property
    def unlock_path(self) -> str:
        return f"/etc/systemd/system/{self.unlock_unit}"

    @property
    def drives(self) -> tuple[Drive, ...]:
        return (*self.members, *self.spares)

    @property
    def serials(self) -> tuple[str, ...]:
        return tuple(drive.serial for drive in self.drives)

    @property
    def moves(self) -> bool:
        """True if md moves stripes when the array grows."""
        return self.level in ("raid5", "raid6", "raid10")

    @property
    def room_kib(self) -> int | None:
        """Room in front of the data of each member; None where mdadm itself leaves enough."""
        return ROOM_KIB if self.moves and self._smallest_bytes < ROOM_KIB * 1024 * 1024 else None

    @property
    def _smallest_bytes(self) -> int:
        return min(drive.size or 0 for drive in self.drives)

    @property
    def member_kib(self) -> int | None:
        """Size that is used of each member: nominal less headroom, in whole chunks. None for RAID0, which takes all."""
        if self.level == "raid0":
            return None
        usable = int(self._smallest_bytes * (1 - HEADROOM)) // 1024
        if self.moves:
            usable = min(usable, self._smallest_bytes // 1024 - ROOM_KIB - self.declared.chunk_kib)
        return usable - usable % (self.declared.chunk_kib or 64)

    @property
    def data_drives(self) -> int:
        """Number of drives whose data a stripe holds. Source: md(4); odd RAID10 stripes span all its drives."""
        return data_drives(self.level, len(self.members))

    @property
    def widths_kib(self) -> tuple[int, ...]:
        """The filesystem's stripe width: that of the members there are, or of fewer that it was made over."""
        counts = range(len(self.members), MEMBERS[self.level] - 1, -1)
        return tuple(dict.fromkeys(self.stripe_kib * data_drives(self.level, count) for count in counts))

    @property
    def stripe_kib(self) -> int:
        """The filesystem's stripe unit; 0 for RAID1, which has no stripes."""
        return self.declared.chunk_kib if self.level != "raid1" else 0

    @property
    def mount_options(self) -> tuple[str, ...]:
        """The options that the kernel shows when all is as declared; the same list mounts it."""
        options = {*self.declared.options, *({"rw"} - ({"rw"} if "ro" in self.declared.options else set()))}
        return tuple(sorted(options if "noatime" in options else options | {"relatime"}))

    @property
    def conf_path(self) -> str:
        return f"/etc/mdadm/mdadm.conf.d/{self.name}.conf"

    @property
    def rule_path(self) -> str | None:
        """Path of the udev rules, read before mdadm's 63 and 64, which look for a filesystem. None for RAID0."""
        return f"/etc/udev/rules.d/62-tier-{self.name}.rules" if self.level != "raid0" else None

    @property
    def unit(self) -> str:
        return mount_unit(self.declared.mount)

    @property
    def unit_path(self) -> str:
        return f"/etc/systemd/system/{self.unit}"

    @property
    def owner_file(self) -> str:
        return f"/var/lib/rackwright/owners/tier-{self.name}.json"


def data_drives(level: Level, count: int) -> int:
    return {
        "raid0": count,
        "raid1": 1,
        "raid5": count - 1,
        "raid6": count - 2,
        "raid10": count // 2 if count % 2 == 0 else count,
    }[level]
