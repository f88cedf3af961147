"""The placement of directories over tiers: which move where, and which stay for what reason. Decides only."""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rackwright.schema.tier_placement import PlacementRule
from rackwright.schema.units import format_size
from rackwright.tiering.manifest import NAME

DAY_SECONDS = 24 * 3600


@dataclass(frozen=True)
class Item:
    """A directory that a rule is about, as it is on its host."""

    path: str
    """Path below the tier's mount point."""
    bytes: int
    files: int
    newest: float
    """Time of the last change of the directory or of anything in it, in seconds of the epoch."""
    in_use: bool
    """Whether a process has something in it open."""

    @property
    def parent(self) -> str:
        return self.path.rpartition("/")[0]


@dataclass(frozen=True)
class Listing:
    """A tier of a host, with the directories that a rule is about."""

    host: str
    mount: str
    used_bytes: int
    total_bytes: int
    items: tuple[Item, ...]


@dataclass(frozen=True)
class Relocation:
    """The move of one directory."""

    rule: str
    host: str
    path: str
    """Path of the directory on its host."""
    bucket: str
    """Bucket that gets it; empty if another tier does."""
    target: str
    """Name of the archive, or path on the host."""
    bytes: int
    target_mount: str = ""
    """Mount point of the target's tier; empty for a bucket."""

    @property
    def text(self) -> str:
        place = f"s3://{self.bucket}/{self.target}" if self.bucket else self.target
        return f"{self.host}:{self.path} to {place}, {format_size(self.bytes)} (rule {self.rule})"


@dataclass(frozen=True)
class Stay:
    """A directory that stays where it is."""

    rule: str
    host: str
    path: str
    reason: str

    @property
    def text(self) -> str:
        return f"{self.host}:{self.path} stays: {self.reason} (rule {self.rule})"


def plan(
    name: str, rule: PlacementRule, listing: Listing, target_mount: str, now: float
) -> Iterator[Relocation | Stay]:
    """Yield the fate of each directory in *listing*, in the order of the moves: the oldest first.

    Args:
        name: Name of the rule.
        target_mount: Mount point of the rule's target tier; empty for a bucket.
        now: The time, in seconds of the epoch.
    """
    kept = _newest(listing.items, rule.keep)
    left = _bytes_above(rule, listing)
    for item in sorted(listing.items, key=lambda item: (item.newest, item.path)):
        path = f"{listing.mount}/{item.path}"
        target = f"{target_mount}/{item.path}" if target_mount else archive_name(rule, listing.host, item.path)
        if reason := _reason_to_stay(rule, item, kept, left, now, target):
            yield Stay(name, listing.host, path, reason)
            continue
        if left is not None:
            left -= item.bytes
        yield Relocation(name, listing.host, path, rule.to.bucket or "", target, item.bytes, target_mount)


def combine(fates: Sequence[Relocation | Stay]) -> tuple[Relocation | Stay, ...]:
    """Return *fates* with at most one move of each directory, and none inside another: the first rule wins."""
    moving: list[Relocation] = []
    combined: list[Relocation | Stay] = []
    for fate in fates:
        if isinstance(fate, Relocation):
            rule = next((each.rule for each in moving if _overlaps(each, fate)), None)
            if rule is not None:
                combined.append(Stay(fate.rule, fate.host, fate.path, f"rule {rule} moves it"))
                continue
            moving.append(fate)
        combined.append(fate)
    return tuple(combined)


def archive_name(rule: PlacementRule, host: str, path: str) -> str:
    """Return the name of the archive of the directory *path*."""
    name = path.replace("/", ".")
    return name if rule.shared else f"{host}.{name}"


def _reason_to_stay(
    rule: PlacementRule, item: Item, kept: frozenset[str], left: int | None, now: float, target: str
) -> str:
    """Return why *item* stays; empty if it moves."""
    days = (now - item.newest) / DAY_SECONDS
    if item.in_use:
        return "a process uses it"
    if not item.files:
        return "it has no file"
    if item.path in kept:
        return f"it is one of the newest {rule.keep}"
    if days < rule.older_days:
        return f"it changed {max(days, 0):.0f} days ago, and moves after {rule.older_days}"
    if left is not None and left <= 0:
        return f"the tier is not fuller than {rule.above_percent} %"
    if rule.to.bucket and not re.fullmatch(NAME, target):
        return f"{target!r} cannot be the name of an archive"
    return ""


def _newest(items: Sequence[Item], count: int) -> frozenset[str]:
    """Return the paths of the newest *count* items in each directory."""
    by_parent: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        by_parent[item.parent].append(item)
    sort = {parent: sorted(found, key=lambda each: (-each.newest, each.path)) for parent, found in by_parent.items()}
    return frozenset(item.path for found in sort.values() for item in found[:count])


def _bytes_above(rule: PlacementRule, listing: Listing) -> int | None:
    """Return the bytes that have to leave the tier; None for a rule without a watermark."""
    if rule.above_percent is None:
        return None
    return listing.used_bytes - listing.total_bytes * rule.above_percent // 100


def _overlaps(one: Relocation, other: Relocation) -> bool:
    if one.host != other.host:
        return False
    paths = f"{one.path}/", f"{other.path}/"
    return paths[0].startswith(paths[1]) or paths[1].startswith(paths[0])
