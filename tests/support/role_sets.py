"""Hosts with any set of roles: each role with variables that are enough for it, and the roles that it needs."""

import copy
import itertools
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.support.our_roles import ROLES, ROOT

SAMPLES_FILE = ROOT / "tests" / "roles" / "samples.yaml"
PAGE = ROOT / "docs" / "reference" / "roles-together.md"
ROW = re.compile(r"^\| `(\w+)` \| (.*) \| (.*) \|$", re.MULTILINE)
PAIRS = [*itertools.combinations(sorted(ROLES), 2)]
SYSTEMS = ("debian-12", "ubuntu-22.04", "ubuntu-24.04")


def samples() -> dict[str, dict[str, Any]]:
    """Return the variables of each role."""
    found: dict[str, dict[str, Any]] = yaml.safe_load(SAMPLES_FILE.read_text())
    return found


def refused_pairs() -> dict[frozenset[str], str]:
    """Return the refused pairs of the page, each with its reason."""
    return {
        frozenset((role, other)): reason
        for role, others, reason in ROW.findall(PAGE.read_text())
        for other in re.findall(r"`(\w+)`", others)
    }


def closure(roles: Iterable[str]) -> list[str]:
    """Return *roles* with the roles that they need."""
    found: list[str] = []
    waiting = [*roles]
    while waiting:
        role = waiting.pop(0)
        if role not in found:
            found.append(role)
            waiting += ROLES[role].after
    return found


def system_of(roles: Iterable[str]) -> str | None:
    """Return a system that all *roles* support; None if there is none."""
    chosen = closure(roles)
    return next((os for os in SYSTEMS if all(os in ROLES[role].by_os for role in chosen)), None)


def host(number: int, roles: Iterable[str], variables: Mapping[str, Mapping[str, Any]] | None = None) -> dict[str, Any]:
    """Return a host of a fleet with *roles*.

    Args:
        number: A number that makes address and identity unique.
        variables: Variables by role, instead of those of the samples.
    """
    chosen = closure(roles)
    known = samples()
    settings = {role: copy.deepcopy((variables or {}).get(role, known[role])) for role in chosen}
    if "kubernetes_node" in settings and "container_runtime" not in (variables or {}):
        settings["container_runtime"] = {**settings["container_runtime"], "engine": "containerd", "version": "2.4.2"}
    return {
        "os": system_of(chosen) or SYSTEMS[0],
        "profile": "virtual",
        "address": f"192.0.{number // 250}.{number % 250 + 1}",
        "identity": {"serial": f"RW-{number}"},
        "roles": settings,
    }


def write_fleet(path: Path, hosts: Mapping[str, Any]) -> None:
    """Write a fleet with *hosts* to *path*."""
    path.write_text(yaml.safe_dump({"fleet": "together", "hosts": dict(hosts)}, sort_keys=False))
