"""The plan of a tier: one function for each situation."""

from collections.abc import Sequence

from rackwright.core.contract import Difference, Plan
from rackwright.core.repository import Repository
from rackwright.errors import Diagnostic
from rackwright.facts.facts import Facts
from rackwright.facts.view import UnknownFact
from rackwright.kinds.shared.identity import refuse_wrong_machine
from rackwright.kinds.shared.unknown_facts import unknown_fact
from rackwright.kinds.tier import luks
from rackwright.kinds.tier.assemble import assemble
from rackwright.kinds.tier.create import complete, create
from rackwright.kinds.tier.enlarge import enlarge
from rackwright.kinds.tier.grow import grow
from rackwright.kinds.tier.inputs import PlanInputs
from rackwright.kinds.tier.repair import repair
from rackwright.kinds.tier.replace import replace
from rackwright.kinds.tier.resume import resume
from rackwright.kinds.tier.situation import (
    Blank,
    Enlarging,
    Growing,
    HalfMade,
    InterruptedReshape,
    Replacing,
    Running,
    Situation,
    StoppedArray,
    situation,
)
from rackwright.kinds.tier.spec import TierSpec


def plan(spec: TierSpec, differences: Sequence[Difference], facts: Facts, repository: Repository) -> Plan:
    """Return the steps from *facts* to *spec*; a doubt about the content of the drives is a refusal."""
    if refusals := (*refuse_wrong_machine(spec.host, differences), *owner_refusals(spec, facts)):
        return Plan(refusals=refusals)
    try:
        inputs = PlanInputs.read(spec, differences, facts, repository)
        present = situation(spec, facts, inputs.owner)
        writes_key = isinstance(present, Blank | HalfMade) or luks.writes_key(spec, inputs.differing_things)
        if writes_key and (refusals := tuple(luks.key_refusals(spec, facts, repository))):
            return Plan(refusals=refusals)
        return _plan(inputs, present)
    except UnknownFact as reason:
        return Plan(refusals=(unknown_fact(spec.id, reason),))


def _plan(inputs: PlanInputs, present: Situation) -> Plan:
    match present:
        case Blank():
            return create(inputs, present)
        case HalfMade():
            return complete(inputs, present)
        case StoppedArray():
            return assemble(inputs, present)
        case InterruptedReshape():
            return resume(inputs, present)
        case Growing():
            return grow(inputs, present)
        case Replacing():
            return replace(inputs, present)
        case Enlarging():
            return enlarge(inputs, present)
        case Running():
            return repair(inputs, present)


def owner_refusals(spec: TierSpec, facts: Facts) -> tuple[Diagnostic, ...]:
    """Return a refusal where another fleet or host owns a tier of the same name."""
    try:
        owner = facts.owner(f"tier-{spec.name}")
    except UnknownFact as reason:
        return (unknown_fact(spec.id, reason),)
    if owner is None or (owner.get("id"), owner.get("fleet")) == (spec.id, spec.fleet):
        return ()
    problem = f"{spec.owner_file} belongs to {owner.get('id')} in fleet {owner.get('fleet')}"
    help = "Declare it in one fleet only, or under another name"
    return (Diagnostic(spec.id, problem, "one owner for each tier", help, id="other-owner"),)
