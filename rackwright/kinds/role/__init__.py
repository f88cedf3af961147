"""A role: software and settings of a host that Ansible puts there, promised as data and compared like a disk array."""

from collections.abc import Sequence
from typing import Any, ClassVar

from rackwright.facts.facts import Facts
from rackwright.kinds import observing
from rackwright.kinds.contract import Claim, Difference, Found, Plan
from rackwright.kinds.host import identity_claim
from rackwright.kinds.house import House
from rackwright.kinds.role import plan as planning
from rackwright.kinds.role import restarting
from rackwright.kinds.role.look import look
from rackwright.kinds.role.promise import promises
from rackwright.kinds.role.spec import RoleSpec


class RoleKind:
    """A folder of ``roles/`` on one host; its ``meta/claims.yml`` says what it promises."""

    token: ClassVar[str] = "rackwright:software:Role"
    spec = RoleSpec

    def id(self, spec: RoleSpec) -> str:
        return spec.id

    def claims(self, spec: RoleSpec, house: House) -> tuple[Claim, ...]:
        return (
            identity_claim(spec.host, spec.identity),
            *(
                restarting.claim(spec, promise.entry, claim)
                for promise in promises(spec, house).promised
                for claim in promise.claims(house)
            ),
            Claim(f"owner:{spec.owner}", {"id": spec.id, "fleet": spec.fleet.name, "phase": "ready"}),
        )

    def observe(self, claims: Sequence[Claim], facts: Facts) -> Found:
        return observing.observe(look, claims, facts)

    def report(self, spec: RoleSpec, facts: Facts) -> dict[str, Any]:
        return {}

    def plan(self, spec: RoleSpec, differences: Sequence[Difference], facts: Facts, house: House) -> Plan:
        return planning.plan(spec, promises(spec, house), differences, facts)

    def removal(self, spec: RoleSpec, facts: Facts, house: House, consent: bool) -> Plan:
        return planning.removal(spec, facts, leaves_all=house.roles[spec.role].guarded)

    def consents(self, spec: RoleSpec) -> bool:
        """A role bears no data: taking it away needs no word of its own."""
        return True

    def wave(self, spec: RoleSpec) -> str:
        return spec.role
