"""The removals of resources: what each deletes from its host and leaves there, or the reason of its refusal.

The provider decides by the same plans.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationError

from rackwright.audit import evidence
from rackwright.cli import project
from rackwright.core.contract import Kind, Plan
from rackwright.core.wording import format_plan
from rackwright.errors import Unreachable, UserError, render
from rackwright.kinds.shared.unknown_facts import refuse_unknown
from rackwright.kinds.table import KINDS
from rackwright.provider import outcomes
from rackwright.provider.inputs import parse_spec
from rackwright.provider.outcomes import PlanRecord, losses
from rackwright.provider.undeclared_source import refuse_removal

if TYPE_CHECKING:
    from rackwright.audit.report import Evidence
    from rackwright.stack import Stack

Outcome = Literal["removed", "stays", "refused", "not reached"]
KEPT: Mapping[outcomes.Outcome, Outcome] = {"refused": "refused", "unreachable": "not reached"}
"""The outcomes with which a resource keeps its entry in the state, by the provider's word."""


@dataclass(frozen=True)
class Removal:
    """The effect of the removal of one resource on its host."""

    name: str
    outcome: Outcome
    reason: str = ""
    """The reason of a refusal, or why the resource stays, in lines."""
    plan: Plan = field(default_factory=Plan)

    @property
    def text(self) -> str:
        """The reason or the steps, in lines."""
        return self.reason or format_plan(self.plan)

    @property
    def record(self) -> PlanRecord:
        """The plan in the words of the preview."""
        steps = tuple(step.text for step in self.plan.steps)
        return PlanRecord(self.name, steps, losses(self.plan), self.plan.notes)


def name_of(resource: Mapping[str, Any]) -> str:
    """Return the name of *resource*, of the state."""
    name: str = resource["urn"].rpartition("::")[2]
    return name


def plan_removals(stack: "Stack", resources: Sequence[Mapping[str, Any]]) -> list[Removal]:
    """Return the removal of each of *resources*, of the state, in the order in which pulumi deletes them."""
    names = {resource["inputs"].get("host") for resource in resources} & stack.fleet.hosts.keys()
    with project.connect_hosts(stack) as hosts:
        facts = evidence.from_hosts(hosts, sorted(names - stack.maintenance.keys()), project.notify)
    if any("host" not in resource["inputs"] for resource in resources):
        facts = {**facts, **evidence.from_endpoints(project.secrets(stack), project.notify)}
    return [plan_removal(stack, resource, facts) for resource in reversed(resources)]


def plan_removal(stack: "Stack", resource: Mapping[str, Any], facts: "Evidence") -> Removal:
    """Return what the removal of *resource*, of the state, does on its host or endpoint."""
    name, host = name_of(resource), resource["inputs"].get("host")
    if host in stack.retired:
        return Removal(name, "stays", f"{host} is retired")
    if text := stack.maintenance.get(host):
        return Removal(name, "refused", f"{host} is {text}")
    kind: Kind[Any] = KINDS[resource["type"]]
    try:
        spec = parse_spec(kind, resource["inputs"])
    except ValidationError as error:
        return Removal(name, "refused", f"the state cannot be read: {error.error_count()} errors")
    if spec.is_only_compared:
        return Removal(name, "stays", "it is only compared: its entry leaves the state, and nothing else changes")
    source = str(spec.facts_source)
    if source not in {*stack.fleet.hosts, *map(str, stack.endpoint_sources)}:
        return Removal(name, "refused", refuse_removal(stack.name, name, spec.facts_source).render(severity=""))
    observed = facts[source]
    if isinstance(observed, UserError):
        outcome: Outcome = "not reached" if isinstance(observed, Unreachable) else "refused"
        return Removal(name, outcome, observed.render(severity=""))
    consent = kind.consents(spec)
    plan: Plan = refuse_unknown(name, lambda: kind.removal(spec, observed, stack.repository, consent))
    if plan.refusals:
        return Removal(name, "refused", render(plan.refusals, severity=""))
    return Removal(name, "removed" if plan.steps else "stays", plan=plan)
