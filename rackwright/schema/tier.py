"""Storage tiers: md arrays with their filesystems and mount points."""

import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, model_validator

from rackwright.schema.base import Many, Schema
from rackwright.schema.problem import Problem, excerpt, raise_any
from rackwright.schema.secret import Key, name_of
from rackwright.schema.units import Size, format_size

Level = Literal["raid0", "raid1", "raid5", "raid6", "raid10"]
FilesystemType = Literal["xfs", "ext4"]

MEMBERS: dict[Level, int] = {"raid0": 2, "raid1": 2, "raid5": 3, "raid6": 4, "raid10": 2}
"""Minimum number of drives for each level. Source: md(4); md itself accepts fewer only in degraded arrays."""
DEFAULT_CHUNK = 512 * 1024
"""Default chunk of mdadm in bytes. Source: mdadm(8), --chunk."""
CHUNK_MIN = 4096
SLOTS_MAX = 1920
"""Drives and spares for which the superblock of an array has room. Source: md_p.h, dev_roles of mdp_superblock_1."""
UNIT_NAME_MAX, UNIT_NAME_SOURCE = 255, "systemd, unit-name.h"
"""Longest name of a unit. A directory has no longer one either."""
SYNC_SPEED_MIN = 1024
SYSTEM_DIRECTORIES = ("bin", "boot", "dev", "etc", "lib", "lib64", "proc", "root", "run", "sbin", "sys", "tmp", "usr")
OWN_DIRECTORIES = ("/opt/rackwright", "/var/lib/rackwright", "/var/log/rackwright")
"""Directories of rackwright's programs, records and logs on a host, outside the system's directories."""
USERSPACE_OPTIONS = {"defaults", "auto", "noauto", "user", "users", "nofail", "_netdev", "rw", "strictatime"}


def _mount(path: str) -> str:
    pure = PurePosixPath(path)
    if pure.root != "/" or str(pure) != path or ".." in pure.parts or path == "/":
        raise Problem(f"got {path!r}", "a mount point is an absolute, plain path below /", "Write it like /srv/data")
    if pure.parts[1] in SYSTEM_DIRECTORIES:
        raise Problem(f"got {path!r}", f"/{pure.parts[1]} belongs to the system", "Mount it below /srv, /mnt or /data")
    for own in OWN_DIRECTORIES:
        if path == own or path.startswith(f"{own}/") or own.startswith(f"{path}/"):
            expected = f"{own} has rackwright's own files, which a mount there would hide"
            raise Problem(f"got {path!r}", expected, "Mount it below /srv, /mnt or /data")
    if not re.fullmatch(r"[A-Za-z0-9_./-]+", path):
        raise Problem(f"got {path!r}", "a mount point has letters, digits and . _ - / only", "Take another name")
    if len(unit := mount_unit(path)) > UNIT_NAME_MAX:
        expected = f"the name of its unit has {UNIT_NAME_MAX} characters at most, four for each hyphen"
        problem = f"got {excerpt(path)}, whose unit has a name of {len(unit)}"
        raise Problem(problem, expected, "Shorten it", source=UNIT_NAME_SOURCE)
    return path


def _options(options: tuple[str, ...]) -> tuple[str, ...]:
    raise_any(_option_problems(options))
    return tuple(sorted(set(options)))


def _option_problems(options: tuple[str, ...]) -> Iterator[Problem]:
    for index, option in enumerate(options):
        if option in USERSPACE_OPTIONS or option.startswith("x-"):
            expected = "a fleet declares only options that the kernel reports"
            help = "Remove it: the mount unit waits for its array, and a missing one never blocks the boot"
            yield Problem(f"got {option!r}", expected, help, (index,), "mount(8), systemd.mount(5)")
        elif not re.fullmatch(r"[\w.=:/-]+", option):
            yield Problem(f"got {option!r}", "an option is one word", "Write several as a list", (index,))


def _array(uuid: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{8}(:[0-9a-f]{8}){3}", uuid):
        expected, help = "an array is 4 times 8 hex digits, with colons", "Copy it from `mdadm --detail --export`"
        raise Problem(f"got {uuid!r}", expected, help)
    return uuid


def _time(time: str) -> str:
    if not re.fullmatch(r"([01][0-9]|2[0-3]):[0-5][0-9]", time):
        raise Problem(f"got {time!r}", "a time of day has hours and minutes, to 23:59", 'Write it like "02:00"')
    return time


def unit_of(path: str, sort: str) -> str:
    """Return systemd's name of the unit of type *sort* for *path*. Source: systemd.unit(5), string escaping."""
    return path.strip("/").replace("-", "\\x2d").replace("/", "-") + f".{sort}"


def mount_unit(mount: str) -> str:
    """Return systemd's name of the unit that mounts *mount*."""
    return unit_of(mount, "mount")


class Scrub(Schema):
    """Schedule for reading a tier and comparing its members, which finds damaged data while it can be repaired."""

    every: Literal["week", "month"] = "month"
    """Every `day` of the calendar, or only the first one of each month."""
    day: Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"] = "sunday"
    """Day of the week, in the host's time zone."""
    at: Annotated[str, AfterValidator(_time)] = "02:00"
    """Time of day, in the host's time zone."""
    speed_max: Size | None = None
    """Maximum bytes per second of each drive; the limit of all syncs by default."""

    @model_validator(mode="after")
    def _has_valid_speed(self) -> Self:
        raise_any(_speed_problems("speed_max", self.speed_max))
        return self

    @property
    def calendar(self) -> str:
        """The schedule as a calendar event of systemd.time(7)."""
        days = "*-*-1..7" if self.every == "month" else "*-*-*"
        return f"{self.day[:3].capitalize()} {days} {self.at}:00"

    @property
    def speed_max_kib(self) -> int | None:
        """Maximum KiB per second of each drive."""
        return self.speed_max and self.speed_max // 1024


class Encryption(Schema):
    """LUKS2 between an array and its filesystem, which makes the drives alone unreadable."""

    key: Key
    """Secret that opens the tier: `{secret: NAME}`. Its value is on the host's boot drive, readable by root only."""
    tpm2: bool = False
    """Whether the key on the boot drive is sealed by the TPM 2.0 of the mainboard, which alone can open it."""


class Tier(Schema):
    """A storage tier of one host. Its members are the drives whose `tier` is its name."""

    provided: bool = False
    """Whether others mount the tier; rackwright then creates, changes and removes nothing of it."""
    array: Annotated[str | None, AfterValidator(_array)] = None
    """UUID of an existing array that rackwright takes over unchanged, and never creates, renames or erases."""
    level: Level | None = None
    """RAID level of md; required unless the tier is provided."""
    filesystem: FilesystemType | None = None
    """Filesystem, created once with the geometry of the array; required unless the tier is provided."""
    mount: Annotated[str, AfterValidator(_mount)]
    """Absolute path of the mount point, below /srv, /mnt or a directory of its own."""
    encryption: Encryption | None = None
    """Encryption of the tier, which makes its drives unreadable without the key; fixed at its creation."""
    chunk: Size | None = None
    """Bytes per drive and stripe; 512KiB by default for levels with chunks."""
    bitmap: bool = True
    """Keep a write-intent bitmap inside the array, so that a returning drive is in sync within seconds."""
    ppl: bool = False
    """Keep a partial parity log instead of the bitmap, so that a power cut while a member is missing loses no earlier
    data (the write hole). Only for RAID5, which then writes more slowly and cannot grow."""
    options: Annotated[Many[str], AfterValidator(_options)] = ("noatime",)
    """Mount options beyond the kernel's defaults."""
    sync_speed_max: Size | None = None
    """Maximum bytes per second of a resync; the system's limit by default."""
    scrub: Scrub | None = None
    """Schedule for reading and comparing the whole tier; `{}`: the first Sunday of each month, at 02:00."""
    wait_for_sync: bool = False
    """Wait for the first sync before the tier counts as created."""
    destroy: Literal["allowed"] | None = None
    """Consent to lose everything on the tier, when its removal is declared next."""

    @model_validator(mode="after")
    def _fits_its_level(self) -> Self:
        raise_any(_problems(self))
        return self

    @property
    def chunk_bytes(self) -> int:
        """Chunk in bytes; 0 for RAID1, which has no chunks."""
        return 0 if self.level == "raid1" else self.chunk or DEFAULT_CHUNK

    @property
    def chunk_kib(self) -> int:
        return self.chunk_bytes // 1024

    @property
    def sync_speed_max_kib(self) -> int | None:
        """Maximum KiB per second of a resync."""
        return self.sync_speed_max and self.sync_speed_max // 1024

    @property
    def key(self) -> str | None:
        """Name of the secret that opens the tier; None without encryption."""
        return None if self.encryption is None else str(name_of(self.encryption.key))

    @property
    def tpm2(self) -> bool:
        """Whether the host's TPM seals the key."""
        return self.encryption is not None and self.encryption.tpm2

    @property
    def has_bitmap(self) -> bool:
        return self.bitmap and self.level != "raid0" and not self.ppl


def _problems(tier: Tier) -> Iterator[Problem]:
    if tier.provided:
        for name in sorted(tier.model_fields_set - {"provided", "mount"}):
            expected = "a provided tier has only a mount"
            yield Problem(f"got {name}", expected, f"Remove {name}, or provided", (name,))
        return
    for name in ("level", "filesystem"):
        if getattr(tier, name) is None:
            yield Problem(f"got no {name}", f"{name} is required here", f"Add {name}")
    if tier.array and tier.destroy:
        expected = "rackwright releases an array that it did not create, and never erases it"
        yield Problem(f"got destroy: {tier.destroy}", expected, "Remove destroy", ("destroy",))
    if tier.array and tier.encryption:
        expected, help = "rackwright takes over an existing array unchanged", "Remove encryption"
        yield Problem("got encryption", expected, help, ("encryption",))
    if tier.scrub and (tier.array or tier.level == "raid0"):
        expected = "the creator of the array schedules its scrub" if tier.array else "RAID0 has nothing to compare with"
        yield Problem("got scrub", expected, "Leave scrub out", ("scrub",), "md(4)")
    if tier.chunk is not None:
        problem = f"got {format_size(tier.chunk)}"
        if tier.level == "raid1":
            yield Problem(problem, "RAID1 has no chunks", "Leave chunk out", ("chunk",), "md(4)")
        elif tier.chunk < CHUNK_MIN or tier.chunk & (tier.chunk - 1):
            expected, help = "a chunk is a power of two, 4KiB or more", "Write 64KiB, 256KiB or 512KiB"
            yield Problem(problem, expected, help, ("chunk",), "mdadm(8)")
    if tier.level == "raid0" and tier.bitmap and "bitmap" in tier.model_fields_set:
        yield Problem("got true", "RAID0 has no bitmap", "Leave bitmap out", ("bitmap",), "md(4)")
    if tier.ppl and tier.level != "raid5":
        expected, help = "md keeps a partial parity log of RAID5 alone", "Leave ppl out"
        yield Problem("got true", expected, help, ("ppl",), "md(4)")
    elif tier.ppl and tier.bitmap and "bitmap" in tier.model_fields_set:
        expected, help = "md keeps a bitmap or a partial parity log", "Leave bitmap out"
        yield Problem("got true, and ppl", expected, help, ("bitmap",), "mdadm(8), --consistency-policy")
    yield from _speed_problems("sync_speed_max", tier.sync_speed_max)


def _speed_problems(name: str, speed: Size | None) -> Iterator[Problem]:
    if speed is not None and speed < SYNC_SPEED_MIN:
        problem, expected = f"got {format_size(speed)}", "the kernel counts in KiB per second"
        yield Problem(problem, expected, "Write it like 50MiB", (name,), "md(4)")
