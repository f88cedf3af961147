"""The Pulumi component of a host with all its resources."""

from collections.abc import Iterable, Mapping, MutableMapping

import pulumi

from rackwright.provider.resources import CLASSES, ManagedResource
from rackwright.provider.state_format import HOST
from rackwright.stack import DeclaredResource

WITHOUT_PARENT: list[str | pulumi.Alias] = [pulumi.Alias(parent=pulumi.ROOT_STACK_RESOURCE)]
"""Hosts have no parent in states of earlier versions, and no resource has one after a plain `pulumi import`."""


class GpuHost(pulumi.ComponentResource):
    """A host with its storage tiers, network and roles, in the order of the declaration."""

    def __init__(self, name: str, rack: pulumi.Resource, mounts: Mapping[str, str]) -> None:
        """
        Args:
            rack: The component of the host's rack.
            mounts: The mount point of each tier, by the tier's name.
        """
        super().__init__(HOST, name, {}, pulumi.ResourceOptions(parent=rack, aliases=WITHOUT_PARENT))
        # from the declaration, because the outputs of each resource cost as much as a resource
        self.register_outputs({"mounts": dict(mounts)})

    def add(self, resources: Iterable[DeclaredResource], present: MutableMapping[str, ManagedResource]) -> None:
        """Declare *resources* of the host to Pulumi, each after those that it depends on, of this host or others.

        Args:
            present: Pulumi resources of all hosts by name so far; the new ones are added.
        """
        for resource in resources:
            after = [present[name] for name in resource.after]
            options = pulumi.ResourceOptions(parent=self, depends_on=after, aliases=WITHOUT_PARENT)
            present[resource.name] = CLASSES[resource.token](resource.name, resource.inputs, options)
