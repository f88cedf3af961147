"""A stack held against its lock: written by this rackwright, and with all that roles promise in it."""

from collections.abc import Iterable, Iterator, Sequence

from rackwright import __version__
from rackwright.core.contract import Claim, Resource
from rackwright.errors import DeclarationError, command
from rackwright.fleet.lockfile import Lock, repository_digests
from rackwright.kinds.role.spec import RoleSpec
from rackwright.stack.stack import ROOT, Stack

ARCHITECTURE = "amd64"
"""Of every host whose packages can be locked."""


def system(os: str) -> str:
    """Return what a lock calls hosts with *os*: ``debian-12/amd64``."""
    return f"{os}/{ARCHITECTURE}"


def problems(stack: Stack, resources: Iterable[tuple[Resource, Sequence[Claim]]]) -> Iterator[DeclarationError]:
    """Yield what forbids to go on with the lock as it is; nothing where the fleet has none and asks for none."""
    where = str(stack.lock_file)
    relock = command(f"rackwright lock {'--fetch ' if stack.fleet.mirror else ''}{{}}", stack.name)
    if stack.fleet.uses:
        relock = f"`rackwright lock` for a stack of {stack.fleet.uses}"
    again = f"Run {relock}, and look at what it changes"
    if stack.fleet.mirror is not None and stack.mirror is None:
        got = "got no lock" if stack.lock is None else "got a lock without a key"
        yield DeclarationError(where, got, "`mirror` serves hosts what a lock names and a key signs", f"Run {relock}")
    if stack.lock is None:
        return
    if stack.lock.rackwright != __version__:
        got, want = f"got a lock of rackwright {stack.lock.rackwright}", f"this is rackwright {__version__}"
        fix = f"Install rackwright {stack.lock.rackwright}, or run {relock} and look at what it changes"
        yield DeclarationError(where, got, want, fix)
    elif other := _other_house(stack.lock):
        yield DeclarationError(
            where, f"got a lock of another rackwright {__version__}", f"here are other {other}", again
        )
    for spec, claims in resources:
        if isinstance(spec, RoleSpec):
            known = stack.lock.packages.get(system(spec.about.os), {})
            missing = (package for package in wanted(claims) if not has(known, package))
            for package in missing:
                yield DeclarationError(where, f"got no {package}", f"{spec.id} promises it", again)


def _other_house(lock: Lock) -> str | None:
    """Return which templates or roles are not what they were for *lock*."""
    repository, roles = repository_digests(ROOT, lock.roles)
    changed = [role for role, digest in lock.roles.items() if roles[role] != digest]
    if changed:
        return f"roles ({', '.join(changed)})"
    return None if repository == lock.repository else "roles, templates or a catalogue"


def wanted(claims: Iterable[Claim]) -> Iterator[str]:
    """Yield the packages that *claims* want to be there, as apt takes them: ``name=version``, or ``name``."""
    for claim in claims:
        sort, _, name = claim.thing.partition(":")
        if sort == "package" and ("version" in claim.want or claim.want.get("installed") is True):
            yield f"{name}={claim.want['version']}" if "version" in claim.want else name


def has(known: Iterable[str], package: str) -> bool:
    """Return whether *package* is one of ``name=version``, or a name of one."""
    return package in known if "=" in package else any(each.startswith(f"{package}=") for each in known)
