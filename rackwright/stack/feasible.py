"""The check that hosts can become as declared: a valid fleet may lack something that each `up` needs."""

import sys
from collections.abc import Iterator
from importlib.util import find_spec

from rackwright.core import contract
from rackwright.errors import Diagnostic, SetupError, command
from rackwright.fleet.place import locate_errors
from rackwright.kinds.role.spec import RoleSpec
from rackwright.stack.lock_check import promised_packages
from rackwright.stack.resource import DeclaredResource
from rackwright.stack.resources import declare
from rackwright.stack.stack import Stack

OWN_BUILD = "rackwright"
"""Part of the version of each package that `rackwright toolchain` builds: no distribution has it."""
_PROGRAMS = {
    "distribution-registry": "registry",
    "kubernetes-queue": "kubernetes-queue",
    "kubernetes-groups": "kubernetes-groups",
    "kubernetes-metrics": "kubernetes-metrics",
}
"""Programs of `rackwright toolchain` by the packages that they build; `kubernetes` builds the others."""
CRYPTSETUP = "cryptsetup-bin"
CRYPTSETUP_PACKAGES = (CRYPTSETUP, "cryptsetup")
S3_MODULE = "boto3"


def check(stack: Stack) -> tuple[DeclaredResource, ...]:
    """Return all resources of *stack*, if hosts can become as declared.

    Raises:
        DeclarationError: the declaration is wrong, or lacks something without which `up` would end with an error.
        SetupError: this computer lacks a library.
    """
    resources = declare(stack)
    if stack.fleet.uses:
        # a fleet of hosts does not need the modules of runs and servers
        from rackwright.stack.missing_environments import missing_environments

        if wrong := [*missing_environments(stack)]:
            raise locate_errors(stack.fleet_file, wrong)
        return resources
    packages: dict[str, dict[str, list[str]]] = {}
    for resource in resources:
        if isinstance(resource.spec, RoleSpec):
            of_host = packages.setdefault(resource.spec.host, {})
            claims = contract.claims(resource.kind, resource.spec, stack.repository)
            of_host[resource.spec.role] = [*promised_packages(claims)]
    rules = _unsourced_packages(stack, packages), _unencryptable_tiers(stack, packages), stack.target_errors()
    if wrong := [error for rule in rules for error in rule]:
        raise locate_errors(stack.fleet_file, wrong)
    if stack.store_urls and find_spec(S3_MODULE) is None:
        problem = f"{S3_MODULE} is not installed on this computer"
        expected = f"the library for the object stores {', '.join(stack.store_urls)}"
        help = f"Run {command('{} -m pip install {}', sys.executable, S3_MODULE)}"
        raise SetupError(Diagnostic("object_stores", problem, expected, help))
    return resources


def _unsourced_packages(stack: Stack, packages: dict[str, dict[str, list[str]]]) -> Iterator[Diagnostic]:
    """Yield one error for all packages that only a mirror could give to the hosts of a rack."""
    if not stack.has_sources_of_hosts:
        return
    lacking = [
        (host, role, package)
        for host, roles in packages.items()
        for role, names in roles.items()
        for package in names
        if OWN_BUILD in package.partition("=")[2]
    ]
    if not lacking:
        return
    host, role, package = lacking[0]
    roles_without = " and ".join(dict.fromkeys(role for _, role, _ in lacking))
    count = len({host for host, _, _ in lacking})
    problem = f"got {roles_without} without a source of packages"
    names = dict.fromkeys(package.partition("=")[0] for _, _, package in lacking)
    programs = [command("rackwright toolchain {}", each) for each in dict.fromkeys(map(_program, names))]
    lock = command("rackwright lock --fetch {}", stack.name)
    help = f"Write `mirror: {{}}` into the fleet, and run {', '.join(programs)} and {lock}"
    if any(role == "kubernetes_node" for _, role, _ in lacking):
        help += ", or declare repository and repository_key of kubernetes_node, and podman or another containerd"
    note = f"{count} {'host needs' if count == 1 else 'hosts need'} them"
    expected = f"no distribution has {package.replace('=', ' ')}"
    yield Diagnostic(f"hosts.{host}.roles.{role}", problem, expected, help, note)


def _program(package: str) -> str:
    """Return the program of `rackwright toolchain` that builds *package*."""
    return _PROGRAMS.get(package, "kubernetes")


def _unencryptable_tiers(stack: Stack, packages: dict[str, dict[str, list[str]]]) -> Iterator[Diagnostic]:
    """Yield an error for each host with an encrypted tier and without the program that makes and opens it."""
    for name, tiers in stack.tiers.items():
        encrypted = [tier for tier, declared in tiers.items() if declared.key]
        brought = {package.partition("=")[0] for names in packages.get(name, {}).values() for package in names}
        if encrypted and not brought.intersection(CRYPTSETUP_PACKAGES):
            problem = (
                f"got the encrypted tier {encrypted[0]}"
                if len(encrypted) == 1
                else (f"got the encrypted tiers {', '.join(encrypted)}")
            )
            expected = f"{CRYPTSETUP} makes and opens LUKS, and no role of the host installs it"
            help = "Write `roles: {base: {packages: [cryptsetup-bin]}}`"
            yield Diagnostic(f"hosts.{name}.tiers.{encrypted[0]}.encryption", problem, expected, help)
