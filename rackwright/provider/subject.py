"""One resource and its observation, the start of each of Pulumi's calls."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from rackwright.core import contract, wire
from rackwright.core import diff as comparison
from rackwright.core.contract import Claim, Difference, Kind, Observation, Plan, Spec
from rackwright.core.scope import rehearsable_claims
from rackwright.core.wire import JSON
from rackwright.errors import Diagnostic
from rackwright.facts.facts import Facts
from rackwright.kinds.shared.unit_overrides import add_manual_work, split_overrides, unmask, with_overrides
from rackwright.kinds.shared.unknown_facts import refuse_unknown
from rackwright.provider import codec, state_format
from rackwright.provider.site import Site

Properties = Mapping[str, JSON]
COMPUTED = frozenset({"claims", "report", "created", "unreachable", state_format.PROPERTY})
"""Properties beside a spec's own fields: claims and the format in inputs and outputs, the others in outputs."""

_RECREATION = "the resource existed and is absent now, so the plan would create it again: {steps}"
_TWO_STEPS = (
    "Restore it; or, if its data may be lost, set `destroy: allowed`, run `rackwright up`, remove it from the"
    " declaration, run it again, and then declare it again"
)


class Urn(NamedTuple):
    """The stack and the type token in a resource's URN."""

    stack: str
    token: str

    @staticmethod
    def parse(urn: str) -> "Urn":
        """Parse ``urn:pulumi:STACK::PROJECT::PARENT$TOKEN::NAME``."""
        head, _, types, *_ = urn.split("::")
        return Urn(head.removeprefix("urn:pulumi:"), types.rpartition("$")[2])


@dataclass(frozen=True)
class Subject:
    """One resource: its kind, its declaration and its site."""

    kind: Kind[Any]
    spec: Spec
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

    def observe(self, fresh: bool = False) -> "ObservedSubject":
        """Return the subject with its observation.

        Args:
            fresh: Read the source now, rather than use the facts of this phase.

        Raises:
            Unreachable: the source cannot be reached.
        """
        facts = self.site.facts(self.spec.facts_source, fresh=fresh)
        observation = self.kind.observe(self.claims, facts)
        return ObservedSubject(self, facts, observation, comparison.diff(self.claims, observation))

    def removal(self) -> Plan:
        """Return the plan that removes the resource from its source, if its own declaration consents."""
        facts = self.site.facts(self.spec.facts_source, fresh=True)
        consent = self.kind.consents(self.spec)
        return refuse_unknown(self.id, lambda: self.kind.removal(self.spec, facts, self.site.repository, consent))


@dataclass(frozen=True)
class ObservedSubject:
    """A subject with its observation at one moment."""

    subject: Subject
    facts: Facts
    observation: Observation
    differences: tuple[Difference, ...]

    @cached_property
    def plan(self) -> Plan:
        subject = self.subject
        repository = subject.site.repository
        plannable, overrides = split_overrides(self.differences)
        plan = refuse_unknown(subject.id, lambda: subject.kind.plan(subject.spec, plannable, self.facts, repository))
        return unmask(add_manual_work(plan, overrides), self.differences)

    def refusals(self, created: bool) -> tuple[Diagnostic, ...]:
        """Return the refusals of the plan. A resource that was complete once is never created again over lost data."""
        if not (created and self.plan.creates):
            return self.plan.refusals
        steps = "; ".join(step.text for step in self.plan.steps)
        recreation = Diagnostic(
            self.subject.id,
            _RECREATION.format(steps=steps),
            help=_TWO_STEPS,
            note="rackwright creates nothing over lost data",
            id="resource-lost",
        )
        return (*self.plan.refusals, recreation)

    def fixable_differences(self) -> tuple[Difference, ...]:
        """Return the differences that need no manual work."""
        by_hand = {difference.path for difference in self.plan.by_hand}
        return tuple(difference for difference in self.differences if difference.path not in by_hand)

    def outputs(self, created: bool) -> dict[str, JSON]:
        """Return the outputs for the state. *created*: the resource was complete once, as it is without differences."""
        report = self.subject.kind.report(self.subject.spec, self.facts)
        outputs: dict[str, JSON] = {
            **self.subject.inputs,
            "claims": mark_secrets(codec.visible_texts(wire.encode_observation(self.observation)), self.subject.claims),
            "report": codec.visible_texts(wire.normalise(report)),
        }
        return {**outputs, "created": True} if created or not self.differences else outputs


def mark_secrets(things: Mapping[str, Mapping[str, JSON]], claims: Iterable[Claim]) -> dict[str, JSON]:
    """Return *things* with Pulumi's secret mark on every value of a secret claim."""
    secret = {(claim.thing, name) for claim in claims if claim.secret for name in claim.want}
    return {
        thing: {name: codec.secret(value) if (thing, name) in secret else value for name, value in values.items()}
        for thing, values in things.items()
    }
