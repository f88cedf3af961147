"""The Pulumi component of a GPU host with all its resources."""

from collections.abc import Iterable
from typing import TypedDict

import pulumi

from rackwright.kinds.tier.spec import TierSpec
from rackwright.provider.resources import CLASSES, ManagedResource
from rackwright.stack import DeclaredResource


class GpuHostArgs(TypedDict):
    resources: list[DeclaredResource]
    """The host and its resources, each after those that it depends on. Plain values, because they decide the number of
    Pulumi resources."""
    managed_resources: dict[str, ManagedResource]
    """Pulumi resources of all hosts by name so far; the component adds its own."""


class GpuHost(pulumi.ComponentResource):
    """A host with its storage tiers, network and roles, in the order of the declaration."""

    mounts: pulumi.Output[dict[str, str]]
    """Mount point of each tier, by the tier's name."""

    def __init__(self, name: str, args: GpuHostArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("rackwright:index:GpuHost", name, {}, opts)
        self._all = args["managed_resources"]
        self.add(args["resources"])
        # from the declaration, because the outputs of each resource cost as much as a resource
        tiers = [resource.spec for resource in args["resources"] if isinstance(resource.spec, TierSpec)]
        self.mounts = pulumi.Output.from_input({tier.name: tier.declared.mount for tier in tiers})
        self.register_outputs({"mounts": self.mounts})

    def add(self, resources: Iterable[DeclaredResource]) -> None:
        """Declare *resources* of the host to Pulumi, each after those that it depends on, of this host or others."""
        for resource in resources:
            options = pulumi.ResourceOptions(parent=self, depends_on=[self._all[name] for name in resource.after])
            self._all[resource.name] = CLASSES[resource.token](resource.name, resource.inputs, options)
