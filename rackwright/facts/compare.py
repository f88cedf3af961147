"""The comparison of two observations of a host, limited to values that people set."""

from collections.abc import Iterator, Mapping
from typing import Any

from rackwright.facts.facts import Facts

NOT_COMPARED = frozenset(
    (
        *("format", "taken_at", "finished_at", "clock_offset_seconds", "salt_id", "covers", "proofs"),
        *("hardware", "gpu_driver", "gpus", "xids", "accelerator_users", "redirecting_bridges"),
        *("mappings", "luks_headers", "luks_copies", "tpm", "credentials", "swaps"),
        *(
            "units",
            "unit_overrides",
            "trials",
            "step_units",
            "loads",
            "changed_files",
            "same_content",
            "sockets",
            "nftables",
            "kubernetes_node",
            "kubernetes_cluster",
            "kubernetes_certificates",
            "paths",
            "dead_routes",
            "chosen_routes",
            "measures",
            "readings",
        ),
        *("sysctls", "kernels", "modules_builtin", "module_versions", "dkms", "libraries"),
        *(
            "environments",
            "environment_files",
            "other_environments",
            "cdi",
            "images",
            "runs",
            "servers",
            "login_keys",
            "tracking_accounts",
            "tracking_rights",
            "state_directories",
            "service_variables",
            "service_certificates",
            "object_store",
            "log_chain",
        ),
        *(
            "containers",
            "listeners",
            "base_programs",
            "unpackaged",
            "integrity",
            "package_database",
            "account_files",
            "boot",
            "static_pods",
            "shadowing_programs",
            "changed_conffiles",
            "archives",
            "foreign_packages",
        ),
        *(
            "factors",
            "sudoers",
            "sudo_settings",
            "pam_modules",
            "pam_profile_modules",
            "crontabs",
            "at_jobs",
            "lingering",
            "user_units",
        ),
        *("module_taints", "grub_parameters", "packet_filters", "nfs_exports", "kernel_names", "secure_boot"),
        *("routing_rules", "odd_routes", "fixed_neighbours", "link_states", "traffic_control", "ipsec"),
        *("virtual_servers", "diverting_settings", "configured_settings", "service_processes", "group_limits"),
        *("manager_environment", "filesystem_states", "device_states", "rebuild_speed_kib"),
    )
)
"""Parts of the raw facts that are not compared. Sockets, readings, unit states, some sysctls and others change by
themselves; the rest differs in the claims of the adopted resources if it matters to them."""
VOLATILE = {
    "drives": ("sample", "superblock", "health", "witnesses", "parts", "held", "writes", "erased_data"),
    "arrays": (
        "array_state",
        "sync_action",
        "sync_completed",
        "sync_speed_kib",
        "mismatch_count",
        "sync_min",
        "sync_max",
    ),
}
"""Ignored keys of these parts: md counts events in its superblock, drives count errors, arrays count writes."""
MISSING = object()
"""The value of a key that one of two mappings lacks."""


UNCOMPARABLE = frozenset(("format", "taken_at", "finished_at", "salt_id", "covers", "proofs"))
"""Parts of the raw facts that describe the probe, not the host."""


def changes(before: Facts, after: Facts, every: bool = False) -> Iterator[tuple[str, Any, Any]]:
    """Yield the path of each value that differs, and both values; MISSING for one that is absent.

    Args:
        every: Whether values that change by themselves are compared too, such as counters and the states of units.
    """
    left_out = UNCOMPARABLE if every else NOT_COMPARED
    for part in sorted({*before.raw, *after.raw} - left_out):
        values = (_all_values(facts, part) if every else _stable_values(facts, part) for facts in (before, after))
        for path, old, new in different_values((part,), *values):
            yield ".".join(path), old, new


def _all_values(facts: Facts, part: str) -> Any:
    """Return the value of *part*, a list of rows with names by these names."""
    value = facts.raw.get(part, MISSING)
    if isinstance(value, list) and value and all(isinstance(row, Mapping) and "name" in row for row in value):
        return {str(row["name"]): row for row in value}
    return value


def changed_paths(before: Facts, after: Facts) -> tuple[str, ...]:
    """Return the paths of all values that differ, such as ``files./etc/fstab.digest``."""
    return tuple(
        ".".join(path)
        for part in sorted({*before.raw, *after.raw} - NOT_COMPARED)
        for path, _, _ in different_values((part,), _stable_values(before, part), _stable_values(after, part))
    )


def _stable_values(facts: Facts, part: str) -> Any:
    value = facts.raw.get(part)
    if part in VOLATILE and isinstance(value, list):
        return {row["name"]: {key: row[key] for key in row if key not in VOLATILE[part]} for row in value}
    return value


def different_values(path: tuple[str, ...], before: Any, after: Any) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    """Yield the path of each value below *path* that differs, and both values; MISSING for one that is absent."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in sorted({*before, *after}):
            yield from different_values((*path, key), before.get(key, MISSING), after.get(key, MISSING))
    elif before != after:
        yield path, before, after
