"""The check that hosts can become as declared: a valid fleet may lack something that each `up` needs."""

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence

from rackwright import extras
from rackwright.core import contract
from rackwright.errors import Diagnostic, SetupError, collect, command
from rackwright.fleet.place import locate_errors
from rackwright.kinds.role.spec import RoleSpec
from rackwright.schema import secret
from rackwright.stack import passphrase
from rackwright.stack.key_pairs import key_pair_problems, key_pairs
from rackwright.stack.lock_check import build_commands, is_own_build, promised_packages
from rackwright.stack.resource import DeclaredResource
from rackwright.stack.resources import check_together, declare_unchecked
from rackwright.stack.settings import settings_source
from rackwright.stack.stack import Stack

CRYPTSETUP = "cryptsetup-bin"
CRYPTSETUP_PACKAGES = (CRYPTSETUP, "cryptsetup")


def check(stack: Stack) -> tuple[DeclaredResource, ...]:
    """Return all resources of *stack*, if hosts can become as declared.

    Raises:
        DeclarationError: the declaration is wrong, or lacks something without which `up` would end with an error.
        SetupError: this computer lacks a library.
    """
    wrong: list[Diagnostic] = []
    resources: tuple[DeclaredResource, ...] = ()
    with collect(wrong):
        resources = declare_unchecked(stack)
    if not wrong:
        with collect(wrong):
            check_together(stack, resources)
    wrong += [error for rule in _rules(stack, resources) for error in rule]
    if wrong:
        raise locate_errors(stack.fleet_file, wrong)
    if stack.store_urls:
        extras.S3.require("object_stores", f"the library for the object stores {', '.join(stack.store_urls)}")
    return resources


def _rules(stack: Stack, resources: Sequence[DeclaredResource]) -> Iterator[Iterator[Diagnostic]]:
    """Yield the errors of each rule; none of them needs that another one holds."""
    yield _wrong_keys(stack, os.environ)
    if stack.fleet.uses:
        # a fleet of hosts does not need the modules of runs and servers
        from rackwright.stack.missing_environments import missing_environments

        yield missing_environments(stack)
        return
    packages: dict[str, dict[str, list[str]]] = {}
    for resource in resources:
        if isinstance(resource.spec, RoleSpec):
            of_host = packages.setdefault(resource.spec.host, {})
            claims = contract.claims(resource.kind, resource.spec, stack.repository)
            of_host[resource.spec.role] = [*promised_packages(claims)]
    yield _unsourced_packages(stack, packages)
    if resources:  # the packages of all roles are known
        yield _unencryptable_tiers(stack, packages)
    yield stack.target_errors()


def _wrong_keys(stack: Stack, environment: Mapping[str, str]) -> Iterator[Diagnostic]:
    """Yield an error for each private key of another certificate, if the values of both are known here.

    A passphrase of *environment*, or the stack's published one, opens the values; others compare the commands that
    read all secrets.
    """
    source = settings_source(stack.name, stack.project)
    stored = source.data.get("config", {}).get(secret.CONFIG_KEY, {})
    names = {name for pair in key_pairs(stack) for name in pair.secrets} & stored.keys()
    if not names:
        return
    own = None
    with contextlib.suppress(SetupError):  # commands that need the passphrase say so
        own = passphrase.read_passphrase(environment)
    own = stack.published_passphrase if own is None else own
    if own is not None:
        yield from key_pair_problems(stack, passphrase.open_secrets(source, sorted(names), own))


def _unsourced_packages(stack: Stack, packages: dict[str, dict[str, list[str]]]) -> Iterator[Diagnostic]:
    """Yield one error for all packages that only a mirror could give to the hosts of a rack."""
    if not stack.has_sources_of_hosts:
        return
    lacking = [
        (host, role, package)
        for host, roles in packages.items()
        for role, names in roles.items()
        for package in names
        if is_own_build(package)
    ]
    if not lacking:
        return
    host, role, package = lacking[0]
    roles_without = " and ".join(dict.fromkeys(role for _, role, _ in lacking))
    count = len({host for host, _, _ in lacking})
    problem = f"got {roles_without} without a source of packages"
    programs = build_commands(package for _, _, package in lacking)
    lock = command("rackwright lock --fetch {}", stack.name)
    help = f"Write `mirror: {{}}` into the fleet, and run {', '.join(programs)} and {lock}"
    if any(role == "kubernetes_node" for _, role, _ in lacking):
        help += ", or declare repository and repository_key of kubernetes_node, and podman or another containerd"
    note = f"{count} {'host needs' if count == 1 else 'hosts need'} them"
    expected = f"no distribution has {package.replace('=', ' ')}"
    yield Diagnostic(f"hosts.{host}.roles.{role}", problem, expected, help, note)


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
