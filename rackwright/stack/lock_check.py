"""The check of a stack's lock: written by this rackwright, and complete for all roles."""

from collections.abc import Iterable, Iterator, Sequence

from rackwright import __version__, locations
from rackwright.core.contract import Claim, Spec
from rackwright.errors import Diagnostic, command
from rackwright.fleet.lockfile import Lock, repository_digests
from rackwright.kinds.role.spec import RoleSpec
from rackwright.stack.stack import Stack

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


def problems(stack: Stack, resources: Iterable[tuple[Spec, Sequence[Claim]]]) -> Iterator[Diagnostic]:
    """Yield the errors of the lock; none if the fleet has no lock and does not require one."""
    where, resources = str(stack.lock_file), [*resources]
    relock = command(f"rackwright lock {'--fetch ' if stack.fleet.mirror else ''}{{}}", stack.name)
    if stack.fleet.uses:
        relock = f"`rackwright lock` for a stack of {stack.fleet.uses}"
    again = f"Run {relock} and check the changes"
    if stack.fleet.mirror is not None and stack.mirror is None:
        problem = "there is no lock" if stack.lock is None else "the lock has no key"
        note = "`mirror` serves packages that a lock lists and a key signs"
        promised = (
            each for spec, claims in resources if isinstance(spec, RoleSpec) for each in promised_packages(claims)
        )
        programs = ", ".join(build_commands(promised))
        help = f"Run {programs} and {relock}" if programs else f"Run {relock}"
        yield Diagnostic(where, problem, help=help, note=note, id="lock-missing")
    if stack.lock is None:
        return
    if stack.lock.rackwright != __version__:
        problem = f"the lock was written by rackwright {stack.lock.rackwright}"
        help = f"Install rackwright {stack.lock.rackwright}, or run {relock} and check the changes"
        yield Diagnostic(where, problem, f"rackwright {__version__}, which this is", help, id="lock-outdated")
    elif changed := _changed_parts(stack.lock):
        problem = f"the lock was written by another build of rackwright {__version__}"
        yield Diagnostic(where, problem, help=again, note=f"this build has different {changed}", id="lock-outdated")
    vendors, with_source = stack.lock.vendors or {}, set()
    for spec, claims in resources:
        if isinstance(spec, RoleSpec):
            with_source |= {spec.host for claim in claims if claim.thing.startswith(SOURCES)}
            locked = stack.lock.packages.get(system(spec.about.os, vendors.get(spec.host, "")), {})
            missing = (package for package in promised_packages(claims) if not has_package(locked, package))
            for package in missing:
                first = "".join(f"Run {built}, then run " for built in build_commands([package]))
                help = f"{first}{relock} and check the changes" if first else again
                problem, note = f"the lock lacks {package}", f"{spec.id} promises it"
                yield Diagnostic(where, problem, help=help, note=note, id="lock-outdated")
    for host in sorted(vendors.keys() - with_source):
        problem, note = f"the lock has packages of vendors for {host}", "no role of this host declares a repository"
        yield Diagnostic(where, problem, help=again, note=note, id="lock-outdated")


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
