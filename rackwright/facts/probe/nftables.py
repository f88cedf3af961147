"""The packet filters in the kernel: rackwright's nftables tables as nft lists them, and the names of all tables."""

from __future__ import annotations

import json
import os
from functools import partial
from typing import Any

from rackwright.facts.probe import kernel, netlink
from rackwright.facts.probe.observe import ReadError, attempt, read, run_tool

PREFIX = "rackwright_"
"""Beginning of the names of rackwright's tables."""
MODULE = "nf_tables"
CHANGING = ("handle", "packets", "bytes")
"""Keys of ids and counters, which differ after each load of the same rules."""


def tables(root: str) -> dict[str, Any]:
    """Return rackwright's tables of the family inet by name, each as the list of its chains and rules."""
    if not has_module(root):
        return {}
    found = [item["table"] for item in list_objects("tables") if "table" in item]
    names = [table["name"] for table in found if table["family"] == "inet" and table["name"].startswith(PREFIX)]
    return {name: attempt(partial(table, name)) for name in names}


LEGACY = {"ip": "/proc/net/ip_tables_names", "ip6": "/proc/net/ip6_tables_names"}
"""Files with the tables of the older iptables, by family; a kernel without its module has none."""


def packet_filters(root: str) -> list[str]:
    """Return family and name of each table of nftables, and of the older iptables, such as ``inet filter``."""
    modern = netlink.nftables_tables() if has_module(root) else []
    older = [
        f"{family} {name} of the older iptables"
        for family, path in LEGACY.items()
        if os.path.exists(root + path)
        for name in read(root + path).split()
    ]
    return sorted([*modern, *older])


def has_module(root: str) -> bool:
    """Return whether the kernel has its part of nftables; without it there are no tables, and nft would load it."""
    if os.path.isdir(f"{root}/sys/module/{MODULE}"):
        return True
    builtin = attempt(kernel.modules_builtin, root)
    return MODULE in builtin if isinstance(builtin, list) else True


def table(name: str) -> list[Any]:
    """Return the chains and rules of a table, and the table itself if it has flags: a dormant one has no effect."""
    return [
        stable(item)
        for item in list_objects("table", "inet", name)
        if "chain" in item or "rule" in item or item.get("table", {}).get("flags")
    ]


def list_objects(*what: str) -> list[dict[str, Any]]:
    """Return the objects that nft lists.

    Raises:
        ReadError: nft is not installed, fails, or prints something else.
    """
    try:
        items: list[dict[str, Any]]
        head, *items = json.loads(run_tool("nft", "--json", "--guid", "list", *what))["nftables"]
        head["metainfo"]["json_schema_version"]
    except (ValueError, KeyError, TypeError):
        raise ReadError("nft prints no list of tables") from None
    return items


def stable(value: Any) -> Any:
    """Return *value* without ids and counters."""
    if isinstance(value, dict):
        return {key: stable(each) for key, each in value.items() if key not in CHANGING}
    return [stable(each) for each in value] if isinstance(value, list) else value
