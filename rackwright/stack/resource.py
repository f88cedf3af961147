"""One resource of a stack, before anything is made of it."""

from dataclasses import dataclass
from typing import Any

from rackwright.core.contract import Kind, Resource
from rackwright.kinds import KINDS


@dataclass(frozen=True)
class Declared:
    """One resource: what kind, what is wanted, and after which others."""

    token: str
    spec: Resource
    after: tuple[str, ...] = ()
    """Names of the resources that must be right before this one is touched."""

    @property
    def kind(self) -> Kind[Any]:
        return KINDS[self.token]

    @property
    def name(self) -> str:
        """Pulumi's logical name, and the id: ``host/tier``."""
        return self.kind.id(self.spec)

    @property
    def inputs(self) -> dict[str, Any]:
        """The spec as plain data."""
        return self.spec.model_dump(mode="json", exclude_none=True)
