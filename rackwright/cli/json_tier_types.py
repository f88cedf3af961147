"""The types of the JSON documents of `rackwright tier`; see json_types.py."""

from collections.abc import Sequence

from typing_extensions import TypedDict  # pydantic reads no other one on Python 3.11


class TransferPlan(TypedDict):
    """The upload of a directory into a bucket."""

    archive: str
    """Place of the archive: `s3://BUCKET/NAME`."""
    files: int
    """Number of files in the directory."""
    bytes: int
    """Size of all files."""
    upload_files: int
    """Number of files that the bucket does not have yet."""
    upload_bytes: int
    """Size of these files."""
    complete: bool
    """Whether the bucket has this archive already."""


class ArchiveData(TypedDict):
    """An archive in a bucket, of which every file was compared with the manifest."""

    archive: str
    """Place of the archive: `s3://BUCKET/NAME`."""
    files: int
    """Number of its files."""
    bytes: int
    """Size of all files."""


class ArchiveDamage(TypedDict):
    """A file of an archive that is missing or has another content."""

    object: str
    """Place of the archive."""
    problem: str
    """Path of the file, and what is wrong with it."""


class ArchiveVerification(TypedDict):
    """The comparison of archives with their manifests."""

    intact: Sequence[ArchiveData]
    """Archives without damage."""
    damage: Sequence[ArchiveDamage]
    """Each damaged or missing file of the other archives."""


class RelocationData(TypedDict):
    """The move of one directory by a rule of the fleet's placement."""

    rule: str
    """Name of the rule."""
    host: str
    """Host with the directory."""
    path: str
    """Path of the directory."""
    bucket: str
    """Bucket to which it moves; empty for another tier of the host."""
    target: str
    """Name of its archive in the bucket, or its new path on the host."""
    bytes: int
    """Size of its files."""


class FailedRelocation(TypedDict):
    """A move that failed. Nothing was deleted."""

    move: RelocationData
    """The move."""
    problem: str
    """The error."""


class StayData(TypedDict):
    """A directory that stays."""

    rule: str
    """Name of the rule that is about it."""
    host: str
    """Host with the directory."""
    path: str
    """Path of the directory."""
    reason: str
    """The reason, in words."""


class PlacementPlan(TypedDict):
    """Moves that the placement of the fleet asks for."""

    moves: Sequence[RelocationData]
    """The moves, in their order."""
    stays: Sequence[StayData]
    """All other directories that rules are about."""
    unreachable: Sequence[str]
    """Hosts without an answer, whose directories are unknown."""


class PlacementResult(TypedDict):
    """Moves that the placement of the fleet has made."""

    moved: Sequence[RelocationData]
    """Finished moves."""
    failed: Sequence[FailedRelocation]
    """Failed moves; each directory is still where it was."""
    unreachable: Sequence[str]
    """Hosts without an answer, whose directories are unknown."""


class RestoreTest(TypedDict):
    """An archive that was restored as a test."""

    archive: str
    """Place of the archive: `s3://BUCKET/NAME`."""
    passed: bool
    """Whether all files were restored and loaded."""
    problem: str
    """The first thing that is wrong; empty after a passed test."""
    files: int
    """Number of its files."""
    bytes: int
    """Size of all files."""
    canary: str
    """Outputs of a published model: `same`, `recorded`, `different`, or the reason why they were not compared; empty
    for any other archive."""


class RestoreTests(TypedDict):
    """The results of restore tests, which the buckets keep as well."""

    tests: Sequence[RestoreTest]
    """One for each bucket with an archive."""


class SpeedData(TypedDict):
    """The speed of a tier, or of a bucket from a host."""

    place: str
    """The tier as `HOST:MOUNT`, or the bucket with the host that used it."""
    bytes: int
    """Size of the file."""
    write_seconds: float
    """Seconds until the file was written and on the drive, or in the store."""
    read_seconds: float
    """Seconds until the file was read from there."""


class TierMonthData(TypedDict):
    """The cost of a tier for a month."""

    tier: str
    """Name of the tier."""
    bytes: int
    """Usable bytes."""
    per_tb: float
    """Cost of a TB for a month, without the fixed cost of the tier."""
    total: float
    """Cost of the tier for a month."""


class CostComparison(TypedDict):
    """The monthly costs of the tiers, and of the fastest tier alone."""

    currency: str
    """Currency of all costs."""
    tiers: Sequence[TierMonthData]
    """Each tier."""
    total: float
    """Cost of all tiers."""
    fastest: str
    """Name of the fastest tier."""
    fastest_alone: float
    """Cost of the fastest tier with the capacity of all tiers."""
    saving: float
    """Saved share of the cost of the fastest tier alone; negative if the tiers cost more."""
    break_even_tb: float | None
    """Data in TB from which the tiers cost less; null if they never do."""
    break_even_price_per_tb: float
    """Price of a TB of the fastest tier below which that tier alone costs less."""


class TierBench(TypedDict):
    """The speed of tiers and buckets, and the costs that the fleet declares."""

    speeds: Sequence[SpeedData]
    """Each tier of each host, and each bucket without retention from each host."""
    costs: CostComparison | None
    """The costs; null if the fleet declares none."""
    unreachable: Sequence[str]
    """Errors of hosts without an answer."""
