"""The comparison of two observations of a host, limited to values that people set."""

from collections.abc import Iterator, Mapping
from typing import Any

from rackwright.facts.facts import Facts

PARTS = (
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
"""Parts of the raw facts that are compared. Sockets, readings, sysctls (some are counters) and unit states change
by themselves."""
VOLATILE = {
    "drives": ("sample", "superblock", "health", "witnesses", "parts", "held", "writes", "erased_data"),
    "arrays": ("array_state", "sync_action", "sync_completed", "sync_speed_kib", "mismatch_count"),
}
"""Ignored keys of these parts: md counts events in its superblock, drives count errors, arrays count writes."""


def changed_paths(before: Facts, after: Facts) -> tuple[str, ...]:
    """Return the paths of all values that differ, such as ``files./etc/fstab.digest``."""
    return tuple(
        path
        for part in PARTS
        for path in _different_paths(part, _stable_values(before, part), _stable_values(after, part))
    )


def _stable_values(facts: Facts, part: str) -> Any:
    value = facts.raw.get(part)
    if part in VOLATILE and isinstance(value, list):
        return {row["name"]: {key: row[key] for key in row if key not in VOLATILE[part]} for row in value}
    return value


def _different_paths(path: str, before: Any, after: Any) -> Iterator[str]:
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in sorted({*before, *after}):
            yield from _different_paths(f"{path}.{key}", before.get(key), after.get(key))
    elif before != after:
        yield path
