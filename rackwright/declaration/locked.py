"""A stack held against its lock: written by this rackwright, and with all that roles promise in it."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from rackwright import __version__
from rackwright.declaration.lock import Lock, house_digests
from rackwright.declaration.stack import HOUSE, Stack
from rackwright.errors import DeclarationError
from rackwright.kinds.contract import Claim, Resource
from rackwright.kinds.role.spec import RoleSpec

ARCHITECTURE = "amd64"
"""Of every host whose packages can be locked."""


class Declared(Protocol):
    """One resource; see declare.py."""

    @property
    def name(self) -> str: ...

    @property
    def spec(self) -> Resource: ...


def system(os: str) -> str:
    """Return what a lock calls hosts with *os*: ``debian-12/amd64``."""
    return f"{os}/{ARCHITECTURE}"


def problems(stack: Stack, resources: Iterable[tuple[Declared, Sequence[Claim]]]) -> Iterator[DeclarationError]:
    """Yield what forbids to go on with the lock as it is; nothing where the fleet has none and asks for none."""
    where, again = str(stack.lock_file), f"Run `rackwright lock {stack.name}`, and look at what it changes"
    if stack.fleet.mirror is not None and stack.mirror is None:
        got = "got no lock" if stack.lock is None else "got a lock without a key"
        fix = f"Run `rackwright lock --fetch {stack.name}`"
        yield DeclarationError(where, got, "`mirror` serves hosts what a lock names and a key signs", fix)
    if stack.lock is None:
        return
    if stack.lock.rackwright != __version__:
        got, want = f"got a lock of rackwright {stack.lock.rackwright}", f"this is rackwright {__version__}"
        yield DeclarationError(where, got, want, f"Install rackwright {stack.lock.rackwright}, or: {again}")
    elif other := tuple(_other_house(stack.lock)):
        got = f"got a lock of another rackwright {__version__}"
        yield DeclarationError(where, got, f"here are other {', '.join(other)}", again)
    for declared, claims in resources:
        if isinstance(declared.spec, RoleSpec):
            known = stack.lock.packages.get(system(declared.spec.about.os), {})
            for package in wanted(claims):
                if not has(known, package):
                    yield DeclarationError(where, f"got no {package}", f"{declared.name} promises it", again)


def _other_house(lock: Lock) -> Iterator[str]:
    """Yield what of the house is not what it was for *lock*."""
    house, roles = house_digests(HOUSE, lock.roles)
    changed = [role for role, digest in lock.roles.items() if roles[role] != digest]
    if changed:
        yield f"roles ({', '.join(changed)})"
    elif house != lock.house:
        yield "roles, templates or a catalogue"


def wanted(claims: Iterable[Claim]) -> Iterator[str]:
    """Yield the packages that *claims* want to be there, as apt takes them: ``name=version``, or ``name``."""
    for claim in claims:
        sort, _, name = claim.thing.partition(":")
        if sort == "package" and ("version" in claim.want or claim.want.get("installed") is True):
            yield f"{name}={claim.want['version']}" if "version" in claim.want else name


def has(known: Iterable[str], package: str) -> bool:
    """Return whether *package* is one of ``name=version``, or a name of one."""
    return package in known if "=" in package else any(each.startswith(f"{package}=") for each in known)
