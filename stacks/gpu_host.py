"""One GPU host and everything that stands on it."""

from collections.abc import Iterable
from typing import TypedDict

import pulumi

from rackwright.provider.resources import CLASSES, Managed, Tier
from rackwright.stack import Declared


class GpuHostArgs(TypedDict):
    resources: list[Declared]
    """The host and what stands on it, each after those it names. Plain: they decide how many resources there are."""
    made: dict[str, Managed]
    """Resources of all hosts by name, as far as they are made; it puts its own there."""


class GpuHost(pulumi.ComponentResource):
    """A host, its storage tiers, and what else is declared on it, in the order that the declaration gives."""

    mounts: pulumi.Output[dict[str, str]]
    """Where each tier is mounted, by the tier's name."""

    def __init__(self, name: str, args: GpuHostArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("rackwright:index:GpuHost", name, {}, opts)
        self._made = args["made"]
        self.add(args["resources"])
        # of the declaration, which knows them: to take them from each resource costs as much as a resource
        tiers = [declared.inputs for declared in args["resources"] if declared.token == Tier.token]
        self.mounts = pulumi.Output.from_input({tier["name"]: tier["mount"] for tier in tiers})
        self.register_outputs({"mounts": self.mounts})

    def add(self, resources: Iterable[Declared]) -> None:
        """Make *resources* of the host, each after those it names: of this host, or of others."""
        for declared in resources:
            options = pulumi.ResourceOptions(parent=self, depends_on=[self._made[name] for name in declared.after])
            self._made[declared.name] = CLASSES[declared.token](declared.name, declared.inputs, options)
