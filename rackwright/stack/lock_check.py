"""The check of a stack's lock: written by this rackwright, and complete for all roles."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from rackwright import __version__, locations
from rackwright.core.contract import Claim, Spec
from rackwright.errors import Diagnostic, command, listing
from rackwright.fleet.lockfile import Lock, repository_digests
from rackwright.kinds.role.spec import RoleSpec
from rackwright.stack.stack import Stack
from rackwright.stack.vendor_keys import VendorUse, missing_vendor_keys

ARCHITECTURE = "amd64"
"""Architecture of all hosts with locked packages."""

OWN_BUILD = "rackwright"
"""Part of the version of each package that `rackwright toolchain` builds: no distribution has it."""
_PROGRAMS = {
    "distribution-registry": "registry",
    "kubernetes-queue": "kubernetes-queue",
    "kubernetes-groups": "kubernetes-groups",
    "kubernetes-metrics": "kubernetes-metrics",
}
"""Programs of `rackwright toolchain` by the packages that they build; `kubernetes` builds the others."""
SOURCES = "file:/etc/apt/sources.list.d/"
"""Beginning of the claim of a file with a vendor's repository."""


def system(os: str, vendors: str = "") -> str:
    """Return the name of *os* in a lock: ``debian-12/amd64``, and for hosts with vendors ``debian-12/amd64/SET``."""
    return f"{os}/{ARCHITECTURE}" + (f"/{vendors}" if vendors else "")


class _Cause(NamedTuple):
    """A reason for which the lock has to be written again."""

    problem: str
    note: str = ""
    expected: str = ""


def problems(stack: Stack, resources: Iterable[tuple[Spec, Sequence[Claim]]]) -> Iterator[Diagnostic]:
    """Yield the one error of the lock, with all its causes; none if the fleet has no lock and does not require one."""
    roles = [(spec, claims) for spec, claims in resources if isinstance(spec, RoleSpec)]
    is_incomplete = stack.fleet.mirror is not None and stack.mirror is None
    keys = missing_vendor_keys(stack)
    lacking = [*_lacking_packages(stack, roles)]
    causes = [*_missing_lock(stack, keys)]
    if stack.lock is not None:
        causes += [*_other_build(stack.lock), *_incomplete_lock(stack.lock, keys, lacking), *_stale_hosts(stack, roles)]
    if not causes:
        return
    promised = (each for _, claims in roles for each in promised_packages(claims))
    built = build_commands(promised if is_incomplete else (package for _, package in lacking))
    first, *others = causes
    note = "; ".join(part for part in (first.note, *map(_clause, others)) if part)
    texts = (str(stack.lock_file), first.problem, first.expected, _help(stack, built, keys), note)
    is_missing = is_incomplete or stack.lock is None
    yield Diagnostic(*texts, id="lock-missing") if is_missing else Diagnostic(*texts, id="lock-outdated")


def _clause(cause: _Cause) -> str:
    return f"{cause.problem}, and {cause.note}" if cause.note else cause.problem


def _help(stack: Stack, built: Sequence[str], keys: Sequence[VendorUse]) -> str:
    """Return the remedy of all causes: the commands *built*, `rackwright lock`, and the other ways out."""
    relock = command(f"rackwright lock {'--fetch ' if stack.fleet.mirror else ''}{{}}", stack.name)
    if stack.fleet.uses:
        relock = f"`rackwright lock` for a stack of {stack.fleet.uses}"
    lock, way = stack.lock, ""
    if lock is not None and lock.rackwright != __version__:
        way = f"Install rackwright {lock.rackwright}, or r"
    steps = [*built, relock, *(["check the changes"] if lock is not None else [])]
    comma = "," if len(steps) > 1 else ""
    declare = "; or declare repository_key" if keys else ""
    return f"{way or 'R'}un {', '.join(steps)}{comma} and commit the lock{declare}"


def _missing_lock(stack: Stack, keys: Sequence[VendorUse]) -> Iterator[_Cause]:
    if stack.fleet.mirror is not None and stack.mirror is None:
        problem = "there is no lock" if stack.lock is None else "the lock has no key"
        yield _Cause(problem, "`mirror` serves packages that a lock lists and a key signs")
    elif stack.lock is None and keys:
        yield _Cause(f"there is no lock with the {_keys(keys)}", expected=_signers(keys))


def _other_build(lock: Lock) -> Iterator[_Cause]:
    if lock.rackwright != __version__:
        problem = f"the lock was written by rackwright {lock.rackwright}"
        yield _Cause(problem, expected=f"rackwright {__version__}, which this is")
    elif changed := _changed_parts(lock):
        problem = f"the lock was written by another build of rackwright {__version__}"
        yield _Cause(problem, f"this build has different {changed}")


def _incomplete_lock(
    lock: Lock, keys: Sequence[VendorUse], lacking: Sequence[tuple[RoleSpec, str]]
) -> Iterator[_Cause]:
    if keys:
        yield _Cause(f"the lock lacks the {_keys(keys)}", expected=_signers(keys))
    packages, ids = dict.fromkeys(package for _, package in lacking), [spec.id for spec, _ in lacking]
    if len(packages) == 1:
        promise = "promises" if len({*ids}) == 1 else "promise"
        yield _Cause(f"the lock lacks {', '.join(packages)}", f"{listing(ids)} {promise} it")
    elif packages:
        hosts = listing(spec.host for spec, _ in lacking)
        yield _Cause(f"the lock lacks {len(packages)} packages: {listing(packages)}", f"roles of {hosts} promise them")


def _stale_hosts(stack: Stack, roles: Iterable[tuple[RoleSpec, Sequence[Claim]]]) -> Iterator[_Cause]:
    vendors = (stack.lock and stack.lock.vendors) or {}
    sourced = {spec.host for spec, claims in roles if any(claim.thing.startswith(SOURCES) for claim in claims)}
    if stale := sorted(vendors.keys() - sourced):
        note = f"no role of {'this host' if len(stale) == 1 else 'these hosts'} declares a repository"
        yield _Cause(f"the lock has packages of vendors for {listing(stale)}", note)


def _keys(uses: Sequence[VendorUse]) -> str:
    return f"{'key' if len(uses) == 1 else 'keys'} of {listing(use.repository for use in uses)}"


def _signers(uses: Sequence[VendorUse]) -> str:
    if len(uses) == 1:
        return f"packages of a vendor are signed by its key {uses[0].vendor.fingerprint}"
    fingerprints = listing(use.vendor.fingerprint for use in uses)
    return f"packages of vendors are signed by their keys {fingerprints}"


def _lacking_packages(
    stack: Stack, roles: Iterable[tuple[RoleSpec, Sequence[Claim]]]
) -> Iterator[tuple[RoleSpec, str]]:
    """Yield each package that a role promises and the lock of *stack* lacks."""
    if stack.lock is None:
        return
    vendors = stack.lock.vendors or {}
    for spec, claims in roles:
        locked = stack.lock.packages.get(system(spec.about.os, vendors.get(spec.host, "")), {})
        yield from ((spec, package) for package in promised_packages(claims) if not has_package(locked, package))


def _changed_parts(lock: Lock) -> str | None:
    """Return the roles or other parts of the repository that differ from *lock*; None if all are equal."""
    repository, roles = repository_digests(locations.repository(), lock.roles)
    changed = [role for role, digest in lock.roles.items() if roles[role] != digest]
    if changed:
        return f"roles ({', '.join(changed)})"
    return None if repository == lock.repository else "roles, templates or a catalogue"


def promised_packages(claims: Iterable[Claim]) -> Iterator[str]:
    """Yield the packages that *claims* want installed, in apt's form: ``name=version``, or ``name``."""
    for claim in claims:
        sort, _, name = claim.thing.partition(":")
        if sort == "package" and ("version" in claim.want or claim.want.get("installed") is True):
            yield f"{name}={claim.want['version']}" if "version" in claim.want else name


def is_own_build(package: str) -> bool:
    """Return whether `rackwright toolchain` builds *package*, ``name=version``."""
    return OWN_BUILD in package.partition("=")[2]


def build_commands(packages: Iterable[str]) -> list[str]:
    """Return the commands that build those of *packages* that no distribution has, each in backticks."""
    own = dict.fromkeys(_PROGRAMS.get(each.partition("=")[0], "kubernetes") for each in packages if is_own_build(each))
    return [command("rackwright toolchain {}", each) for each in own]


def has_package(locked: Iterable[str], package: str) -> bool:
    """Return whether *package*, a name or ``name=version``, is among *locked*, all ``name=version``."""
    return package in locked if "=" in package else any(each.startswith(f"{package}=") for each in locked)
