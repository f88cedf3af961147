"""The kind of a role: software and settings of a host that Ansible applies, with claims as data."""

from collections.abc import Sequence
from typing import Any, ClassVar

from rackwright.core.contract import Claim, Difference, Observation, Plan
from rackwright.core.repository import Repository
from rackwright.facts.facts import Facts
from rackwright.kinds.role import restarts
from rackwright.kinds.role.observe import observe_property
from rackwright.kinds.role.spec import RoleSpec
from rackwright.kinds.shared import observation
from rackwright.kinds.shared.identity import identity_claim


class RoleKind:
    """The kind of a folder of ``roles/`` on one host; ``meta/claims.yml`` holds its claims."""

    token: ClassVar[str] = "rackwright:software:Role"
    spec = RoleSpec

    def id(self, spec: RoleSpec) -> str:
        return spec.id

    def claims(self, spec: RoleSpec, repository: Repository) -> tuple[Claim, ...]:
        from rackwright.kinds.role.promise import promises
        from rackwright.kinds.role.reads import read_claims

        promised = promises(spec, repository)
        return (
            identity_claim(spec.host, spec.identity),
            *(
                restarts.add_remedy(spec, promise.entry, claim)
                for promise in promised.items
                for claim in promise.claims(repository)
            ),
            *read_claims(promised, repository),
            Claim(f"owner:{spec.owner}", {"id": spec.id, "fleet": spec.fleet.name, "phase": "ready"}),
        )

    def observe(self, claims: Sequence[Claim], facts: Facts) -> Observation:
        return observation.observe(observe_property, claims, facts)

    def report(self, spec: RoleSpec, facts: Facts) -> dict[str, Any]:
        return {}

    def plan(self, spec: RoleSpec, differences: Sequence[Difference], facts: Facts, repository: Repository) -> Plan:
        from rackwright.kinds.role import plan as planning
        from rackwright.kinds.role.promise import promises

        return planning.plan(spec, promises(spec, repository), differences, facts, repository)

    def removal(self, spec: RoleSpec, facts: Facts, repository: Repository, consent: bool) -> Plan:
        from rackwright.kinds.role import plan as planning

        return planning.removal(spec, facts, leaves_all=repository.roles[spec.role].guarded)

    def consents(self, spec: RoleSpec) -> bool:
        """Return True: a role holds no data, so its removal needs no consent."""
        return True

    def rollout_group(self, spec: RoleSpec) -> str:
        return spec.role
