"""Resolve the lock of a stack, and fill the local repository from it."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rackwright import __version__, locations
from rackwright.errors import ChangeRefused
from rackwright.fleet.lockfile import Lock, repository_digests
from rackwright.lock import key, tree, wheels
from rackwright.lock.apt import Apt
from rackwright.lock.package_sets import Origins, PackageSet, images, package_sets, requirements, role_specs
from rackwright.progress import Progress, format_remaining, ignore
from rackwright.stack import Stack
from rackwright.stack.lock_check import system
from rackwright.toolchain import cache

ROUNDS = 5
"""Maximum rounds until the versions of each set agree with those of the others; two have always been enough."""


@dataclass(frozen=True)
class ResolvedLock:
    """A lock, and the packages of each set in it."""

    lock: Lock
    sets: Mapping[PackageSet, Mapping[str, str]]


def resolve(
    stack: Stack, apts: Mapping[Origins, Apt], upgrade: bool = False, progress: Progress = ignore
) -> ResolvedLock:
    """Return the lock that *stack* needs now; locked versions stay if they still fit.

    Args:
        apts: Prepared apt of each system and its vendors.
        upgrade: Take the newest version of each package, unless a role promises a version.

    Raises:
        ChangeRefused: a package is not available.
    """
    before = stack.lock
    hosts_by_set = package_sets(replace(stack, lock=None))
    vendors = {host: each.origins.vendors for each, hosts in hosts_by_set.items() for host in hosts}
    vendors = {host: name for host, name in vendors.items() if name}
    # an earlier rackwright locked the packages of all vendors together: their versions could reach any host
    is_mixed = before is not None and before.vendors is None and bool(vendors)
    preferred: Mapping[str, Mapping[str, str]] = {} if before is None or upgrade or is_mixed else before.packages
    progress(f"resolving the packages of {len(hosts_by_set)} sets of hosts")
    for _ in range(ROUNDS):
        sets = {
            each: _resolve_set(apts[each.origins], each, _versions_for(preferred, each.origins), hosts)
            for each, hosts in hosts_by_set.items()
        }
        merged: dict[str, dict[str, str]] = {}
        for each, packages in sets.items():
            merged.setdefault(_system(each.origins), {}).update(packages)
        if merged == preferred:
            break
        preferred = merged
    roles = sorted({spec.role for spec in role_specs(stack)})
    repository, role_digests = repository_digests(locations.repository(), roles)
    lock = Lock(
        fleet=stack.fleet.fleet,
        rackwright=__version__,
        repository=repository,
        roles=role_digests,
        key=before.key if before else None,
        vendor_keys={**stack.vendor_keys} or None,
        vendors=vendors,
        packages=merged,
        images=images(stack),
        wheels=wheels.resolve(requirements(stack), progress),
    )
    return ResolvedLock(lock, sets)


def load_apts(stack: Stack) -> dict[Origins, Apt]:
    """Return apt for each system of *stack* with each selection of vendors, so that no host gets another's vendor."""
    directory = cache.directory() / "mirror" / "apt"
    origins = sorted({each.origins for each in package_sets(replace(stack, lock=None))})
    return {each: Apt(each.os, directory / each.name, each.sources) for each in origins}


def fetch(resolved: ResolvedLock, apts: Mapping[Origins, Apt], stack: Stack, progress: Progress) -> None:
    """Download all files of *resolved* into the pool, and write the tree of the local repository."""
    for number, (each, packages) in enumerate(resolved.sets.items(), start=1):
        began, heading = time.monotonic(), f"fetching set {number} of {len(resolved.sets)}"

        def report(percent: float, file: str, began: float = began, heading: str = heading) -> None:
            left = format_remaining(percent, 100, time.monotonic() - began)
            progress(f"{heading}: {percent:.0f} % of the packages{left}  {file}")

        apts[each.origins].download(each, packages, report)
    for origins, apt in apts.items():
        apt.collect(resolved.lock.packages.get(_system(origins), {}))
    wheels.fetch(resolved.lock.wheels, progress)
    progress("writing the local repository")
    tree.write(resolved.lock, stack.local_repository, key_file(stack))


def add_key(resolved: ResolvedLock, stack: Stack) -> ResolvedLock:
    """Return *resolved* with the public key that signs the local repository of *stack*."""
    public = key.check(key_file(stack), stack.fleet.fleet, resolved.lock.key)
    return replace(resolved, lock=resolved.lock.model_copy(update={"key": public}))


def key_file(stack: Stack) -> Path:
    """Return the path of the private key that signs the local repository of *stack*."""
    return stack.local_repository.with_suffix(".key")


def _system(origins: Origins) -> str:
    return system(origins.os, origins.vendors)


def _versions_for(locked: Mapping[str, Mapping[str, str]], origins: Origins) -> Mapping[str, str]:
    """Return the locked versions that a set may take: those of the distribution, and those of its own vendors."""
    return {**locked.get(system(origins.os), {}), **locked.get(_system(origins), {})}


def _resolve_set(apt: Apt, package_set: PackageSet, locked: Mapping[str, str], hosts: Sequence[str]) -> dict[str, str]:
    try:
        return apt.resolve(package_set, locked, tuple(hosts))
    except ChangeRefused:
        if not locked:
            raise
        return apt.resolve(package_set, {}, tuple(hosts))  # the declared packages conflict with the locked versions
