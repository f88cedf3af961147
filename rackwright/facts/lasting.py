"""What of two looks at a host differs, of all that somebody sets; what moves by itself is left out."""

from collections.abc import Iterator, Mapping
from typing import Any

from rackwright.facts.facts import Facts

SET = (
    "identity",
    "os",
    "drives",
    "arrays",
    "filesystems",
    "mounts",
    "links",
    "routes",
    "resolvers",
    "search_domains",
    "packages",
    "held",
    "users",
    "groups",
    "modules",
    "kernel_parameters",
    "files",
    "directories",
    "texts",
    "owners",
    "initramfs",
    "boot_id",
)
"""Parts of the raw facts. Sockets, readings, sysctls (some are counters) and states of units move by themselves."""
MOVING = {
    "drives": ("sample", "superblock", "health", "witnesses", "parts", "held", "writes", "erased_data"),
    "arrays": ("array_state", "sync_action", "sync_completed", "sync_speed_kib", "mismatch_count"),
}
"""What of these moves: md counts its events in the superblock, drives their errors, and arrays what is written."""


def changed(before: Facts, after: Facts) -> tuple[str, ...]:
    """Return the paths of what is set otherwise: ``files./etc/fstab.digest``."""
    return tuple(path for part in SET for path in _changed(part, _told(before, part), _told(after, part)))


def _told(facts: Facts, part: str) -> Any:
    found = facts.raw.get(part)
    if part in MOVING and isinstance(found, list):
        return {each["name"]: {key: each[key] for key in each if key not in MOVING[part]} for each in found}
    return found


def _changed(path: str, before: Any, after: Any) -> Iterator[str]:
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in sorted({*before, *after}):
            yield from _changed(f"{path}.{key}", before.get(key), after.get(key))
    elif before != after:
        yield path
