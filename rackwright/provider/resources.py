"""The resource types of the provider, for Pulumi programs: each takes a spec as plain data.

Tier("host-1/scratch", {"host": "host-1", "name": "scratch", "level": "raid10", ...})
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import pulumi


class Managed(pulumi.CustomResource):
    """What every resource of ours has."""

    token: ClassVar[str]

    host: pulumi.Output[str]
    """The host it stands on."""
    claims: pulumi.Output[dict[str, dict[str, Any]]]
    """What was found of each thing it claims."""
    report: pulumi.Output[dict[str, Any]]
    """What is worth knowing and never compared: UUIDs, how far a sync is."""

    def __init__(self, name: str, spec: Mapping[str, Any], opts: pulumi.ResourceOptions | None = None) -> None:
        computed = {"claims": None, "report": None}  # to the SDK, a property without a value is an output
        super().__init__(self.token, name, {**computed, **spec}, opts)


class Host(Managed):
    """A machine, with what it must have in it."""

    token = "rackwright:host:Host"


class Tier(Managed):
    """An array of drives with its filesystem, mounted."""

    token = "rackwright:storage:Tier"

    name: pulumi.Output[str]
    mount: pulumi.Output[str]
    """Where it is mounted."""


class Network(Managed):
    """Links, addresses, routes and name servers of a host."""

    token = "rackwright:network:Network"


class Peers(Managed):
    """The ways from a host to the others of its networks, each for packets as large as is declared."""

    token = "rackwright:network:Peers"


class Role(Managed):
    """Software and settings of a host, put there by Ansible."""

    token = "rackwright:software:Role"


class TrainingWorker(Managed):
    """A place for processes of a training run, on another host than its chief."""

    token = "rackwright:workload:TrainingSeat"


class TrainingRun(Managed):
    """A training that runs, or has finished, led from its chief."""

    token = "rackwright:workload:TrainingRun"

    name: pulumi.Output[str]


class ModelServer(Managed):
    """A model that a host serves."""

    token = "rackwright:workload:ModelServer"

    name: pulumi.Output[str]


CLASSES: Mapping[str, type[Managed]] = {
    resource.token: resource
    for resource in (Host, Tier, Network, Peers, Role, TrainingWorker, TrainingRun, ModelServer)
}
"""By type token."""
