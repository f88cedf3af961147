"""The registries of container images on hosts of a fleet, from their role."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rackwright.errors import ChangeRefused, Diagnostic
from rackwright.schema.problem import hint
from rackwright.schema.reference import name_of
from rackwright.stack.stack import Stack

ROLE = "registry"


@dataclass(frozen=True, slots=True)
class Registry:
    """A declared registry."""

    host: str
    url: str
    authority: str
    """Certificate of the authority that clients trust, in PEM."""
    passwords: Mapping[str, str]
    """Names of the secrets of accounts that write, by account."""


def find(stack: Stack, host: str | None) -> Registry:
    """Return the registry on *host*, or the only one of *stack*.

    Raises:
        ChangeRefused: There is no such registry, or there are several and *host* is None.
    """
    hosts = [name for name, each in stack.fleet.hosts.items() if ROLE in each.roles]
    expected = f"hosts with role {ROLE}: {', '.join(hosts) or 'none'}"
    if host is None and len(hosts) != 1:
        help = "Write --host NAME" if hosts else f"Declare role {ROLE} on a host"
        raise ChangeRefused(Diagnostic(str(stack.fleet_file), f"the fleet has {len(hosts)} registries", expected, help))
    if host is not None and host not in hosts:
        raise ChangeRefused(Diagnostic("--host", f"got {host!r}", expected, hint(host, hosts, "Name one of these")))
    return _registry(stack, host or hosts[0])


def secret_of(registry: Registry, account: str) -> str:
    """Return the name of the secret with the password of *account*.

    Raises:
        ChangeRefused: No account of this name may write.
    """
    if account not in registry.passwords:
        expected = f"accounts that write: {', '.join(registry.passwords)}"
        help = hint(account, registry.passwords, "Name one of these")
        raise ChangeRefused(Diagnostic("--account", f"got {account!r}", expected, help))
    return registry.passwords[account]


def _registry(stack: Stack, name: str) -> Registry:
    host, source = stack.fleet.hosts[name], stack.repository.roles[ROLE]
    settings: Mapping[str, Any] = host.roles[ROLE]
    passwords = {
        account["name"]: str(name_of(account["password"], "secret"))
        for account in settings.get("accounts", ())
        if not account.get("read_only")
    }
    return Registry(name, str(source.url(host.os, settings)), str(settings.get("authority", "")), passwords)
