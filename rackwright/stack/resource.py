"""A resource as the stack declares it."""

from dataclasses import dataclass, field
from typing import Any

from rackwright.core.contract import Kind, Spec


@dataclass(frozen=True)
class DeclaredResource:
    """A resource of a stack: its kind, its spec, and the resources that come before it."""

    kind: Kind[Any] = field(compare=False)
    spec: Spec
    after: tuple[str, ...] = ()
    """Names of the resources that must be as declared before this one changes."""

    @property
    def token(self) -> str:
        """The Pulumi type."""
        return self.kind.token

    @property
    def name(self) -> str:
        """The logical name in Pulumi, which is also the id: ``host/tier``."""
        return self.kind.id(self.spec)

    @property
    def source(self) -> str:
        """The key of the resource's facts in an audit and in snapshots: a host's name, or ``s3:archive``."""
        return str(self.spec.facts_source)

    @property
    def inputs(self) -> dict[str, Any]:
        """The spec as plain data."""
        return self.spec.model_dump(mode="json", exclude_none=True)
