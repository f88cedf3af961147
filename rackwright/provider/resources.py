"""The resource types of the provider, for Pulumi programs: each takes a spec as plain data.

TierResource("host-1/scratch", {"host": "host-1", "name": "scratch", "level": "raid10", ...})
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import pulumi


class ManagedResource(pulumi.CustomResource):
    """The base class of every resource of rackwright."""

    token: ClassVar[str]

    host: pulumi.Output[str]
    """The host of the resource."""
    claims: pulumi.Output[dict[str, dict[str, Any]]]
    """The observed values of its claims, by thing."""
    report: pulumi.Output[dict[str, Any]]
    """Values that are never compared, such as UUIDs and the progress of a sync."""

    def __init__(self, name: str, spec: Mapping[str, Any], opts: pulumi.ResourceOptions | None = None) -> None:
        computed = {"claims": None, "report": None}  # the SDK takes a property without a value for an output
        super().__init__(self.token, name, {**computed, **spec}, opts)


class HostResource(ManagedResource):
    """A machine and its hardware."""

    token = "rackwright:host:Host"


class TierResource(ManagedResource):
    """An array of drives with its filesystem, mounted."""

    token = "rackwright:storage:Tier"

    name: pulumi.Output[str]
    mount: pulumi.Output[str]
    """The mount point."""


class NetworkResource(ManagedResource):
    """Links, addresses, routes and name servers of a host."""

    token = "rackwright:network:Network"


class PeersResource(ManagedResource):
    """The paths from a host to the other hosts of its networks, each for packets of the declared size."""

    token = "rackwright:network:Peers"


class RoleResource(ManagedResource):
    """Software and settings of a host, applied by Ansible."""

    token = "rackwright:software:Role"


class TrainingWorkerResource(ManagedResource):
    """A worker host of a training run: an sshd through which the launcher starts processes."""

    token = "rackwright:workload:TrainingSeat"


class TrainingRunResource(ManagedResource):
    """A training run on its launcher host, running or finished."""

    token = "rackwright:workload:TrainingRun"

    name: pulumi.Output[str]


class ModelServerResource(ManagedResource):
    """A model server on one host."""

    token = "rackwright:workload:ModelServer"

    name: pulumi.Output[str]


CLASSES: Mapping[str, type[ManagedResource]] = {
    resource.token: resource
    for resource in (
        HostResource,
        TierResource,
        NetworkResource,
        PeersResource,
        RoleResource,
        TrainingWorkerResource,
        TrainingRunResource,
        ModelServerResource,
    )
}
"""The resource classes by type token."""
