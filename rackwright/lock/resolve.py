"""A lock from what is declared, and the local repository from a lock."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rackwright import __version__
from rackwright.errors import Refused
from rackwright.fleet.lockfile import Lock, repository_digests
from rackwright.lock import key, tree, wheels
from rackwright.lock.apt import Apt, DownloadProgress
from rackwright.lock.package_sets import PackageSet, images, package_sets, requirements, role_specs
from rackwright.stack import Stack
from rackwright.stack.lock_check import system
from rackwright.stack.stack import ROOT
from rackwright.toolchain import cache

ROUNDS = 5
"""How often sets are resolved until each fits what the others took; more than two were never needed."""


@dataclass(frozen=True)
class Made:
    """A lock, and each set in it by itself."""

    lock: Lock
    sets: Mapping[PackageSet, Mapping[str, str]]


def make(stack: Stack, apts: Mapping[str, Apt], upgrade: bool = False) -> Made:
    """Return the lock of *stack* as it has to be now: what is locked stays, where it still fits.

    Args:
        apts: By system, each prepared.
        upgrade: Take the newest of what roles do not promise in a version.

    Raises:
        Refused: something cannot be had.
    """
    before = stack.lock
    wanted = package_sets(replace(stack, lock=None))
    taken: Mapping[str, Mapping[str, str]] = {} if before is None or upgrade else before.packages
    for _ in range(ROUNDS):
        sets = {
            one: _resolved(apts[one.os], one, taken.get(system(one.os), {}), hosts) for one, hosts in wanted.items()
        }
        found: dict[str, dict[str, str]] = {}
        for one, packages in sets.items():
            found.setdefault(system(one.os), {}).update(packages)
        if found == taken:
            break
        taken = found
    roles = sorted({spec.role for spec in role_specs(stack)})
    repository, of_roles = repository_digests(ROOT, roles)
    lock = Lock(
        fleet=stack.fleet.fleet,
        rackwright=__version__,
        repository=repository,
        roles=of_roles,
        key=before.key if before else None,
        packages=found,
        images=images(stack),
        wheels=wheels.resolve(requirements(stack)),
    )
    return Made(lock, sets)


def systems(stack: Stack) -> dict[str, Apt]:
    """Return what resolves and fetches for each system of *stack*."""
    names = sorted({one.os for one in package_sets(replace(stack, lock=None))})
    return {name: Apt(name, cache.directory() / "mirror" / "apt" / name) for name in names}


def fetch(made: Made, apts: Mapping[str, Apt], stack: Stack, progress: DownloadProgress) -> None:
    """Keep all of the lock of *made*, and write the tree of the local repository."""
    for one, packages in made.sets.items():
        apts[one.os].download(one, packages, progress)
    for name, apt in apts.items():
        apt.collect(made.lock.packages.get(system(name), {}))
    wheels.fetch(made.lock.wheels)
    tree.write(made.lock, stack.local_repository, key_file(stack))


def signed(made: Made, stack: Stack) -> Made:
    """Return *made* with the key that signs the local repository of *stack*."""
    public = key.check(key_file(stack), stack.fleet.fleet, made.lock.key)
    return replace(made, lock=made.lock.model_copy(update={"key": public}))


def key_file(stack: Stack) -> Path:
    return stack.local_repository.with_suffix(".key")


def write(lock: Lock, path: Path) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(lock.text)
    beside.replace(path)


def _resolved(apt: Apt, wanted: PackageSet, locked: Mapping[str, str], hosts: Sequence[str]) -> dict[str, str]:
    try:
        return apt.resolve(wanted, locked, tuple(hosts))
    except Refused:
        if not locked:
            raise
        return apt.resolve(wanted, {}, tuple(hosts))  # what is declared now does not fit what was
