"""Handles of a rack's parts: values for other resources of a program, as Outputs."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import pulumi

from rackwright.errors import Diagnostic
from rackwright.kinds.model_server.spec import ServerSpec
from rackwright.provider.resources import ManagedResource
from rackwright.schema.host import Host
from rackwright.schema.problem import hint
from rackwright.stack import DeclaredResource, Stack

T = TypeVar("T")


@dataclass(frozen=True)
class TierHandle:
    """A storage tier of a host."""

    _mount: str
    _resource: ManagedResource | None

    @property
    def mount(self) -> pulumi.Output[str]:
        """The mount point, available when the tier is mounted."""
        return _available(self._mount, self._resource)


@dataclass(frozen=True)
class RoleHandle:
    """A role of a host."""

    _url: str | None
    _resource: ManagedResource | None

    @property
    def url(self) -> pulumi.Output[str | None]:
        """The URL of the role's service, available when the service runs; None for a role without one."""
        return _available(self._url, self._resource)


@dataclass(frozen=True)
class HostHandle:
    """A host of the fleet."""

    address: str
    """The address of its SSH."""
    tiers: Mapping[str, TierHandle]
    """Storage tiers by name, provided ones included."""
    roles: Mapping[str, RoleHandle]
    """Roles by name."""


@dataclass(frozen=True)
class ServerHandle:
    """A model server on one or several hosts."""

    urls: Mapping[str, pulumi.Output[str]]
    """The URL on each host, available when the server is ready there."""

    @property
    def url(self) -> pulumi.Output[str]:
        """The URL on the first of its hosts."""
        return next(iter(self.urls.values()))


class Handles(dict[str, T]):
    """Handles by name. An unknown name is an error of the program without a traceback."""

    def __init__(self, kind: str, owner: str, handles: Mapping[str, T]) -> None:
        """
        Args:
            kind: The noun for one of them, for messages.
            owner: The place that declares them, for messages.
        """
        super().__init__(handles)
        self._kind, self._owner = kind, owner

    def __missing__(self, name: str) -> T:
        expected = f"{self._kind}s there: {', '.join(self) or 'none'}"
        help = hint(name, self, f"Declare the {self._kind}, or correct the program")
        error = Diagnostic(self._owner, f"the program uses the {self._kind} {name}", expected, help)
        raise pulumi.RunError(error.render(severity=""))


def hosts(stack: Stack, resources: Mapping[str, ManagedResource]) -> Mapping[str, HostHandle]:
    """Return a handle of each host of *stack*.

    Args:
        resources: Pulumi resources by name; those of the hosts are missing if another stack manages them.
    """
    place = str(stack.fleet_file)
    found = {
        name: HostHandle(
            host.address,
            Handles("tier", f"{place}: hosts.{name}", _tiers(name, host, resources)),
            Handles("role", f"{place}: hosts.{name}", _roles(stack, name, host, resources)),
        )
        for name, host in stack.fleet.hosts.items()
    }
    return Handles("host", place, found)


def servers(
    stack: Stack, declared: Iterable[DeclaredResource], resources: Mapping[str, ManagedResource]
) -> Mapping[str, ServerHandle]:
    """Return a handle of each model server of *stack*.

    Args:
        declared: The resources of the stack.
        resources: Pulumi resources by name.
    """
    urls: dict[str, dict[str, pulumi.Output[str]]] = {}
    for each in declared:
        if isinstance(spec := each.spec, ServerSpec) and not spec.follows:  # clients ask the leader of a replica
            url = spec.declared.url(stack.fleet.hosts[spec.host])
            urls.setdefault(spec.name, {})[spec.host] = _available(url, resources[each.name])
    return Handles("server", str(stack.fleet_file), {name: ServerHandle(of_hosts) for name, of_hosts in urls.items()})


def _tiers(name: str, host: Host, resources: Mapping[str, ManagedResource]) -> dict[str, TierHandle]:
    """Return the handles of the tiers; the resource of the host itself checks the mounts of provided ones."""
    return {
        tier: TierHandle(declared.mount, resources.get(name if declared.provided else f"{name}/{tier}"))
        for tier, declared in host.tiers.items()
    }


def _roles(stack: Stack, name: str, host: Host, resources: Mapping[str, ManagedResource]) -> dict[str, RoleHandle]:
    sources = stack.repository.roles
    return {
        role: RoleHandle(sources[role].url(host.os, host.variables(role)), resources.get(f"{name}/{role}"))
        for role in host.roles
    }


def _available(value: T, resource: ManagedResource | None) -> pulumi.Output[T]:
    """Return *value*, known in a preview, for resources that wait until *resource* is as declared.

    Args:
        resource: None if another stack manages it.
    """
    return pulumi.Output.from_input(value) if resource is None else resource.host.apply(lambda _: value)
