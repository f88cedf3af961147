"""The inputs of a plan: the declaration, its differences, and the facts that every situation asks for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rackwright.core.contract import Difference
from rackwright.core.repository import Repository
from rackwright.facts.facts import Facts
from rackwright.facts.storage import Array, CryptMapping
from rackwright.kinds.tier.observe import find_carrier
from rackwright.kinds.tier.spec import TierSpec


@dataclass(frozen=True)
class PlanInputs:
    """Everything that the plan of a tier depends on."""

    spec: TierSpec
    differences: Sequence[Difference]
    facts: Facts
    repository: Repository
    owner: Mapping[str, Any]
    """The content of the owner file; empty where there is none."""
    carrier: Array | CryptMapping | None
    """The device that bears the filesystem."""

    @staticmethod
    def read(spec: TierSpec, differences: Sequence[Difference], facts: Facts, repository: Repository) -> "PlanInputs":
        """Return the inputs of a plan.

        Raises:
            UnknownFact: The owner file, or the devices of the host, cannot be read.
        """
        owner = facts.owner(f"tier-{spec.name}") or {}
        return PlanInputs(spec, differences, facts, repository, owner, find_carrier(facts, spec.carrier))

    def differs(self, sort: str, name: str | None = None) -> bool:
        """Return whether a known property differs of any thing of *sort*, such as ``md``."""
        return any(
            item.thing.split(":")[0] == sort and name in (None, item.name) and not item.is_unknown
            for item in self.differences
        )

    @property
    def differing_things(self) -> frozenset[str]:
        """Things of which a known property differs."""
        return frozenset(item.thing for item in self.differences if not item.is_unknown)

    @property
    def differing_paths(self) -> frozenset[str]:
        """Paths of the known differences."""
        return frozenset(item.path for item in self.differences if not item.is_unknown)

    @property
    def drive_differences(self) -> tuple[Difference, ...]:
        return tuple(item for item in self.differences if item.thing.startswith("drive:"))
