"""One resource and how it was found: what every one of Pulumi's calls starts from."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from rackwright.core import contract, wire
from rackwright.core import diff as comparison
from rackwright.core.contract import Claim, Difference, Kind, Observation, Plan, Refusal, Resource
from rackwright.core.scope import rehearsable_claims
from rackwright.core.wire import JSON
from rackwright.errors import Refused
from rackwright.facts.facts import Facts
from rackwright.kinds.shared.unit_overrides import add_manual_work, split_overrides, with_overrides
from rackwright.kinds.shared.unknown_facts import refuse_unknown
from rackwright.provider import codec
from rackwright.provider.site import Site

Properties = Mapping[str, JSON]
COMPUTED = frozenset({"claims", "report", "created", "unreachable"})
"""What we add to a spec's own fields: claims in inputs and outputs, the others in outputs."""

_GONE = "it was made once and is not there any more, so this would make it anew: {steps}"
_TWO_STEPS = (
    "Bring it back, or give it up in two steps: set `destroy: allowed`, run `rackwright up`, take it out of the"
    " declaration and run it again; then declare it anew"
)


class Urn(NamedTuple):
    """What a resource's URN tells."""

    stack: str
    token: str

    @staticmethod
    def parse(urn: str) -> "Urn":
        """``urn:pulumi:STACK::PROJECT::PARENT$TOKEN::NAME``"""
        head, _, types, *_ = urn.split("::")
        return Urn(head.removeprefix("urn:pulumi:"), types.rpartition("$")[2])


class SeveralRefused(Refused):
    """Everything that forbids a plan."""

    def __init__(self, refusals: Iterable[Refusal]) -> None:
        self.errors = tuple(refusal.error() for refusal in refusals)
        Exception.__init__(self, "\n".join(map(str, self.errors)))


@dataclass(frozen=True)
class Subject:
    """One resource: its kind, what is declared of it, and where it lives."""

    kind: Kind[Any]
    spec: Resource
    inputs: Properties
    site: Site

    @property
    def id(self) -> str:
        return self.kind.id(self.spec)

    @cached_property
    def claims(self) -> tuple[Claim, ...]:
        return rehearsable_claims(
            with_overrides(contract.claims(self.kind, self.spec, self.site.repository)), self.spec
        )

    def look(self, fresh: bool = False) -> "Look":
        """Return the subject as its host shows it.

        Args:
            fresh: Ask the host now, rather than take what it said earlier in this phase.

        Raises:
            HostUnreachable: nothing can be said.
        """
        facts = self.site.hosts.facts(self.spec.host, fresh=fresh)
        found = self.kind.observe(self.claims, facts)
        return Look(self, facts, found, comparison.diff(self.claims, found))

    def removal(self) -> Plan:
        """Return what takes it off its host as that is now, if its own declaration consents."""
        facts = self.site.hosts.facts(self.spec.host, fresh=True)
        consent = self.kind.consents(self.spec)
        return refuse_unknown(self.id, lambda: self.kind.removal(self.spec, facts, self.site.repository, consent))


@dataclass(frozen=True)
class Look:
    """A subject as it was found at one moment."""

    subject: Subject
    facts: Facts
    found: Observation
    differences: tuple[Difference, ...]

    @cached_property
    def plan(self) -> Plan:
        subject = self.subject
        repository = subject.site.repository
        planned, left = split_overrides(self.differences)
        plan = refuse_unknown(subject.id, lambda: subject.kind.plan(subject.spec, planned, self.facts, repository))
        return add_manual_work(plan, left)

    def refusals(self, created: bool) -> tuple[Refusal, ...]:
        """Return what forbids the plan. What was whole once is never made anew: its data is lost, or elsewhere."""
        if not (created and self.plan.creates):
            return self.plan.refusals
        steps = "; ".join(step.text for step in self.plan.steps)
        gone = Refusal(self.subject.id, _GONE.format(steps=steps), "nothing is made over lost data", _TWO_STEPS)
        return (*self.plan.refusals, gone)

    def unmended(self) -> tuple[Difference, ...]:
        """Return the differences that are not left to a person."""
        by_hand = {difference.path for difference in self.plan.by_hand}
        return tuple(difference for difference in self.differences if difference.path not in by_hand)

    def outputs(self, created: bool) -> dict[str, JSON]:
        """Return what the state shall hold; *created*, or nothing differs: it was whole once."""
        report = self.subject.kind.report(self.subject.spec, self.facts)
        outputs: dict[str, JSON] = {
            **self.subject.inputs,
            "claims": sealed(codec.visible_texts(wire.encode_observation(self.found)), self.subject.claims),
            "report": codec.visible_texts(wire.normalise(report)),
        }
        return {**outputs, "created": True} if created or not self.differences else outputs


def sealed(things: Mapping[str, Mapping[str, JSON]], claims: Iterable[Claim]) -> dict[str, JSON]:
    """Return *things* with every value of a secret claim as a secret of Pulumi's."""
    secret = {(claim.thing, name) for claim in claims if claim.secret for name in claim.want}
    return {
        thing: {name: codec.secret(value) if (thing, name) in secret else value for name, value in values.items()}
        for thing, values in things.items()
    }
