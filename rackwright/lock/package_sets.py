"""What the roles of a stack want of a distribution: sets of packages, each resolved as a whole."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from rackwright.errors import DeclarationError, DeclarationErrors
from rackwright.kinds.role.entries import Environment
from rackwright.kinds.role.promise import promises
from rackwright.kinds.role.spec import RoleSpec
from rackwright.stack import Stack
from rackwright.stack.lock_check import promised_packages
from rackwright.stack.resources import declare_unchecked
from rackwright.toolchain.apt import SUITES

PREFERENCES = PurePosixPath("/etc/apt/preferences.d")
IMAGE = re.compile(r"(?P<name>[^\s@]+)@sha256:(?P<digest>[0-9a-f]{64})")


@dataclass(frozen=True)
class PackageSet:
    """Packages that are together on a host, and how apt there chooses among versions of all others."""

    os: str
    packages: tuple[str, ...]
    """As apt takes them: ``name=version``, or ``name`` for the newest."""
    preferences: tuple[tuple[str, str], ...]
    """Name and text of each file of apt_preferences(5)."""


def package_sets(stack: Stack) -> dict[PackageSet, tuple[str, ...]]:
    """Return every set of packages that hosts of *stack* want, and which of them.

    Raises:
        DeclarationErrors: packages of a host's system cannot be locked.
    """
    hosts: dict[str, tuple[set[str], dict[str, str]]] = {}
    for spec in role_specs(stack):
        packages, preferences = hosts.setdefault(spec.host, (set(), {}))
        promised = promises(spec, stack.repository)
        packages.update(
            promised_packages(claim for entry in promised.entries for claim in [entry.claim(stack.repository)])
        )
        for file in promised.files:
            if PurePosixPath(file.file).parent == PREFERENCES and isinstance(file.content, str):
                preferences[PurePosixPath(file.file).name] = _bare(file.content)
    found: dict[PackageSet, tuple[str, ...]] = {}
    for host, (packages, preferences) in hosts.items():
        os = stack.fleet.hosts[host].os
        if packages:
            one = PackageSet(os, tuple(sorted(packages)), tuple(sorted(preferences.items())))
            found[one] = (*found.get(one, ()), host)
    if strange := [host for one, hosts_of in found.items() if one.os not in SUITES for host in hosts_of]:
        known = ", ".join(SUITES)
        raise DeclarationErrors(
            DeclarationError(
                f"hosts.{host}.os",
                f"got {stack.fleet.hosts[host].os}",
                f"packages are locked for {known}, and were tried for no other system",
                "Declare this host in a fleet without a lock",
            )
            for host in strange
        )
    return found


def requirements(stack: Stack) -> list[str]:
    """Return the lists of what roles install into environments of their own, each once."""
    found = {
        entry.requirements: None
        for spec in role_specs(stack)
        for entry in promises(spec, stack.repository).entries
        if isinstance(entry, Environment)
    }
    return list(found)


def images(stack: Stack) -> dict[str, str]:
    """Return the digest of each container image that variables of roles name by one."""
    found = (image for spec in role_specs(stack) for image in _images(spec.variables))
    return {image["name"]: image["digest"] for image in found}


def role_specs(stack: Stack) -> Iterator[RoleSpec]:
    for declared in declare_unchecked(stack):
        if isinstance(declared.spec, RoleSpec):
            yield declared.spec


def _images(value: Any) -> Iterator[re.Match[str]]:
    match value:
        case str():
            if image := IMAGE.fullmatch(value):
                yield image
        case Mapping():
            for below in value.values():
                yield from _images(below)
        case list() | tuple():
            for below in value:
                yield from _images(below)


def _bare(preferences: str) -> str:
    """Return *preferences* without what only people read: it names the host, and sets are shared."""
    lines = preferences.splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith(("Explanation:", "#")))
