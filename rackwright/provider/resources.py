"""The resource types of the provider, for Pulumi programs: one class for each kind, which takes a spec as plain data.

CLASSES["rackwright:storage:Tier"]("host-1/scratch", {"host": "host-1", "declared": {"level": "raid10", ...}, ...})
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import pulumi

from rackwright.core.contract import Kind
from rackwright.kinds.table import KINDS


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


def _resource_class(kind: Kind[Any]) -> type[ManagedResource]:
    """Return the resource class of *kind*: TierResource for TierKind."""
    name = f"{type(kind).__name__.removesuffix('Kind')}Resource"
    return type(name, (ManagedResource,), {"__doc__": type(kind).__doc__, "__module__": __name__, "token": kind.token})


CLASSES: Mapping[str, type[ManagedResource]] = {token: _resource_class(kind) for token, kind in KINDS.items()}
"""The resource classes by type token."""
