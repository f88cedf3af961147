"""Encryption: the open mappings of dm-crypt, and the LUKS headers on devices and in files."""

from __future__ import annotations

from typing import Any

from rackwright.facts.probe import block, superblocks
from rackwright.facts.probe.observe import attempt, listing, read

LUKS_COPIES = "/etc/rackwright/tiers"
"""Folder of copies of LUKS headers, named ``*.header``."""


def mappings(machine: block.BlockDevices) -> list[dict[str, Any]]:
    """Return the open mappings of dm-crypt."""
    return [mapping(machine, name) for name in machine.mappings]


def mapping(machine: block.BlockDevices, name: str) -> dict[str, Any]:
    folder = machine.sys(name)
    return {
        "name": name,
        "mapped_name": attempt(read, f"{folder}/dm/name"),
        "uuid": attempt(read, f"{folder}/dm/uuid"),
        "on": attempt(listing, f"{folder}/slaves"),
        "size_bytes": attempt(machine.size, name),
    }


def luks_headers(machine: block.BlockDevices) -> list[dict[str, Any]]:
    """Return the LUKS headers on drives, partitions and arrays, each once; unreadable values are unknown."""
    uuids = {
        name: signature["uuid"]
        for name, signature in block.signatures_by_device(machine)
        if signature["type"] == "crypto_LUKS"
    }
    headers = [{"device": name, "uuid": uuid, **luks_header(machine.path(name))} for name, uuid in uuids.items()]
    keys = ("uuid", "version", "sequence", "key_slots", "data_offset_bytes")
    return headers + [
        {"device": name, **dict.fromkeys(keys, reason)} for name, reason in block.unreadable_devices(machine).items()
    ]


def luks_header(path: str) -> dict[str, Any]:
    header = attempt(superblocks.luks, path)
    keys = ("version", "sequence", "key_slots", "data_offset_bytes")
    return dict.fromkeys(keys, header) if "unknown" in header else header


def luks_copies(root: str) -> dict[str, Any]:
    """Return the copies of LUKS headers by their paths."""
    paths = [f"{LUKS_COPIES}/{name}" for name in listing(root + LUKS_COPIES, "*.header")]
    return {path: attempt(superblocks.luks, root + path) for path in paths}
