"""The Pulumi component of a rack: all resources of the stack's fleet, and handles for the rest of the program."""

from collections.abc import Mapping
from itertools import groupby
from pathlib import Path

import pulumi

from rackwright import locations
from rackwright.core.contract import EndpointSource
from rackwright.errors import DeclarationError, Diagnostic, UserError
from rackwright.program import handles
from rackwright.program.gpu_host import WITHOUT_PARENT, GpuHost
from rackwright.program.handles import HostHandle, ServerHandle
from rackwright.provider.resources import CLASSES, ManagedResource
from rackwright.provider.state_format import RACK, RACK_NAME
from rackwright.schema.host import Host
from rackwright.stack import DeclaredResource, Stack, declare, load_stack

_PROVIDER_ERROR = Diagnostic(
    "Rack {}",
    "the program passes a provider of rackwright, with which Pulumi would replace every resource",
    "the stack's settings configure the provider",
    "Remove it from provider or providers",
).render(severity="")


class Rack(pulumi.ComponentResource):
    """The fleet of the selected stack: its hosts with their tiers, networks and roles, its runs and its servers."""

    hosts: Mapping[str, HostHandle]
    """The hosts by name."""
    servers: Mapping[str, ServerHandle]
    """The model servers by name."""
    mounts: dict[str, dict[str, str]]
    """The mount point of each tier, by host and tier."""

    def __init__(self, name: str, fleet: str | None = None, opts: pulumi.ResourceOptions | None = None) -> None:
        """
        Args:
            name: The logical name of the component. The names of its resources do not contain it.
            fleet: The fleet's file, relative to the project, for a program that is written for this fleet; a stack
                with another fleet is refused. None accepts the fleet of any stack.

        Raises:
            pulumi.RunError: the stack's settings, its fleet or *opts* are invalid; pulumi prints the errors alone.
        """
        try:
            stack = _load(fleet)
            resources = declare(stack)
        except UserError as error:
            raise pulumi.RunError(error.render(severity="")) from None
        # a state that `adopt` wrote has another name
        aliases = [pulumi.Alias(name=RACK_NAME)] if name != RACK_NAME else []
        options = pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(aliases=aliases))
        super().__init__(RACK, name, {}, options)
        if self.get_provider(RACK) is not None:  # its own, or one of a parent
            raise pulumi.RunError(_PROVIDER_ERROR.format(name))
        self._resources: dict[str, ManagedResource] = {}
        self.mounts = {name: _mounts(host) for name, host in stack.fleet.hosts.items()}
        self._declare(resources)
        self.hosts = handles.hosts(stack, self._resources)
        self.servers = handles.servers(stack, resources, self._resources)
        self.register_outputs({"mounts": self.mounts})

    def _declare(self, resources: tuple[DeclaredResource, ...]) -> None:
        """Declare *resources* in their order, each below the component of its host, or of the rack itself."""
        hosts: dict[str, GpuHost] = {}
        for name, of_host in groupby(resources, key=lambda resource: resource.spec.facts_source):
            if isinstance(name, EndpointSource):
                for resource in of_host:
                    after = [self._resources[each] for each in resource.after]
                    options = pulumi.ResourceOptions(parent=self, depends_on=after, aliases=WITHOUT_PARENT)
                    self._resources[resource.name] = CLASSES[resource.token](resource.name, resource.inputs, options)
                continue
            if name not in hosts:
                hosts[name] = GpuHost(name, self, self.mounts[name])
            hosts[name].add(of_host, self._resources)


def _load(fleet: str | None) -> Stack:
    """Return the selected stack.

    Raises:
        DeclarationError: its settings or its fleet are invalid, or its fleet is not *fleet*.
    """
    project = locations.find_project(Path.cwd()) or Path.cwd()
    stack = load_stack(pulumi.get_stack(), project)
    if fleet is not None and stack.fleet_file.resolve() != (project / fleet).resolve():
        problem = f"got the fleet {stack.fleet_file}"
        help = f"Select a stack with {fleet}, or write another fleet in the program"
        raise DeclarationError(Diagnostic(f"stack {stack.name}", problem, f"the program is for {fleet}", help))
    return stack


def _mounts(host: Host) -> dict[str, str]:
    """Return the mount point of each tier of *host*, by the tier's name."""
    return {name: tier.mount for name, tier in host.tiers.items()}
