"""Collect the packages, Python requirements and container images that the roles of a stack install."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from rackwright.errors import DeclarationError, Diagnostic
from rackwright.fleet.lockfile import suite
from rackwright.kinds.role.entries.software import EnvironmentEntry
from rackwright.kinds.role.promise import promises
from rackwright.kinds.role.spec import RoleSpec
from rackwright.stack import Stack
from rackwright.stack.lock_check import promised_packages
from rackwright.stack.resources import declare_unchecked
from rackwright.toolchain.apt import SUITES

PREFERENCES = PurePosixPath("/etc/apt/preferences.d")
SOURCES = PurePosixPath("/etc/apt/sources.list.d")
KEYRINGS = PurePosixPath("/etc/apt/keyrings")
IMAGE = re.compile(r"(?P<name>[^\s@]+)@sha256:(?P<digest>[0-9a-f]{64})")


class Origins(NamedTuple):
    """Origin of the packages of a set."""

    os: str
    """System whose mirrors have the packages."""
    sources: tuple[tuple[str, str], ...]
    """Path and text of each file with a vendor's repository or its key."""

    @property
    def name(self) -> str:
        """The name of a directory for these origins alone."""
        return suite(self.os, self.vendors)

    @property
    def vendors(self) -> str:
        """The name of the set of vendors; empty without one."""
        return hashlib.sha256(repr(self.sources).encode()).hexdigest()[:16] if self.sources else ""


@dataclass(frozen=True)
class PackageSet:
    """Packages that one host installs, and its apt preferences for all other packages; apt resolves them together."""

    os: str
    packages: tuple[str, ...]
    """Packages in apt's form: ``name=version``, or ``name`` for the newest."""
    preferences: tuple[tuple[str, str], ...]
    """Name and text of each file of apt_preferences(5)."""
    sources: tuple[tuple[str, str], ...] = ()
    """Path and text of each file with a vendor's repository or its key, which roles declare."""

    @property
    def origins(self) -> Origins:
        """The origins of these packages; no other set's vendor is among them."""
        return Origins(self.os, self.sources)


def package_sets(stack: Stack) -> dict[PackageSet, tuple[str, ...]]:
    """Return the hosts of *stack* that want each set of packages, by set.

    Raises:
        DeclarationError: rackwright cannot lock packages of the system of a host.
    """
    hosts: dict[str, tuple[set[str], dict[str, str], dict[str, str]]] = {}
    for spec in role_specs(stack):
        packages, preferences, sources = hosts.setdefault(spec.host, (set(), {}, {}))
        promised = promises(spec, stack.repository)
        packages.update(
            promised_packages(claim for entry in promised.entries for claim in [entry.claim(stack.repository)])
        )
        for file in promised.files:
            if PurePosixPath(file.file).parent == PREFERENCES and isinstance(file.content, str):
                preferences[PurePosixPath(file.file).name] = _without_comments(file.content)
            if PurePosixPath(file.file).parent in (SOURCES, KEYRINGS) and isinstance(file.content, str):
                sources[file.file] = _without_comments(file.content)
    sets: dict[PackageSet, tuple[str, ...]] = {}
    for host, (packages, preferences, sources) in hosts.items():
        os = stack.fleet.hosts[host].os
        if packages:
            files = (tuple(sorted(each.items())) for each in (preferences, sources))
            package_set = PackageSet(os, tuple(sorted(packages)), *files)
            sets[package_set] = (*sets.get(package_set, ()), host)
    if unsupported := [host for each, hosts_of in sets.items() if each.os not in SUITES for host in hosts_of]:
        supported = ", ".join(SUITES)
        raise DeclarationError(
            *(
                Diagnostic(
                    f"hosts.{host}.os",
                    f"packages of {stack.fleet.hosts[host].os} cannot be locked",
                    supported,
                    "Declare this host in a fleet without a lock",
                    "no other system has been tested",
                )
                for host in unsupported
            )
        )
    return sets


def requirements(stack: Stack) -> list[str]:
    """Return the requirement lists of the Python environments that roles install, each list once."""
    lists = {
        entry.requirements: None
        for spec in role_specs(stack)
        for entry in promises(spec, stack.repository).entries
        if isinstance(entry, EnvironmentEntry)
    }
    return list(lists)


def images(stack: Stack) -> dict[str, str]:
    """Return the digest of each container image that a variable of a role names with a digest, by name."""
    references = (image for spec in role_specs(stack) for image in _images(spec.variables))
    return {image["name"]: image["digest"] for image in references}


def role_specs(stack: Stack) -> Iterator[RoleSpec]:
    """Yield each declared role of each host."""
    for declared in declare_unchecked(stack):
        if isinstance(declared.spec, RoleSpec):
            yield declared.spec


def _images(value: Any) -> Iterator[re.Match[str]]:
    match value:
        case str():
            if image := IMAGE.fullmatch(value):
                yield image
        case Mapping():
            for item in value.values():
                yield from _images(item)
        case list() | tuple():
            for item in value:
                yield from _images(item)


def _without_comments(preferences: str) -> str:
    """Return *preferences* without comments and explanations, which name the host, while hosts share sets."""
    lines = preferences.splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith(("Explanation:", "#")))
