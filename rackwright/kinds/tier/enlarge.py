"""The enlargement of an array whose members are all larger than the part that it uses.

md changes the size of an array only while it rests, so a copy onto the last successor, or a reshape, comes before.
"""

from collections.abc import Iterator

from rackwright.core.contract import Command, Plan, WhenAtRest
from rackwright.errors import Diagnostic
from rackwright.facts.storage import Array
from rackwright.kinds.tier import commands, fill, owner_file, repair
from rackwright.kinds.tier.inputs import PlanInputs
from rackwright.kinds.tier.situation import Enlarging
from rackwright.kinds.tier.spec import TierSpec


def enlarge(inputs: PlanInputs, enlarging: Enlarging) -> Plan:
    """Return the plan that lets an array use all of its members, and then its filesystem."""
    spec, array = inputs.spec, enlarging.array
    change = (*refusals(spec, array, completes=False), *repair.place_refusals(spec, array))
    if refused := repair.assembled_refusals(inputs, enlarging, change):
        return Plan(refusals=refused)
    steps = (
        *repair.let_go_steps(spec, array, enlarging.lingering),
        *repair.repair_steps(inputs, enlarging),
        *enlarge_steps(inputs),
        *fill.fill_steps(inputs),
        *owner_file.repair_steps(inputs),
    )
    restored = repair.restores_members(inputs, enlarging, enlarging.lingering)
    by_hand = repair.manual_differences(inputs, enlarging, restored)
    return Plan(steps, by_hand=by_hand, notes=(*repair.spares_in_use(inputs, enlarging),))


def refusals(spec: TierSpec, array: Array, completes: bool) -> Iterator[Diagnostic]:
    """Yield why more of each member cannot be taken.

    Args:
        completes: True if the members that the array lacks are coming.
    """
    where = f"{spec.id}: md member_kib"
    problem = f"the array uses {array.member_bytes // 1024} KiB of each member, and {spec.member_kib} KiB are there"
    if spec.level == "raid5" and (spec.declared.ppl or array.ppl):
        help = "Declare `ppl: false` and run up; declare `ppl: true` again after the enlargement"
        yield Diagnostic(where, problem, "an array without a partial parity log: md enlarges no other", help)
    elif array.condition in ("degraded", "failed", "interrupted") and not completes:
        help = "Repair the array first, and run again"
        yield Diagnostic(
            where, f"{problem}, but the array is {array.condition}", "an array with all members", help, id="array-busy"
        )


def enlarge_steps(inputs: PlanInputs) -> Iterator[Command]:
    """Yield the step that takes the rest of each member, where md does nothing else that ends with it."""
    if inputs.differs("md", "member_kib"):
        yield Command(f"let {inputs.spec.name} take all of its members", _argv(inputs.spec))


def enlarge_at_rest_steps(spec: TierSpec) -> Iterator[Command]:
    """Yield the step that takes the rest of each member after md's copy or reshape: here, or in a unit on the host."""
    if spec.declared.wait_for_sync:
        yield Command(f"let {spec.name} take all of its members", _argv(spec))
    else:
        at_rest = WhenAtRest(spec.array_key, commands.waiting_unit("enlarge", spec.array_key))
        text = f"let {spec.name} take all of its members once that is done"
        yield Command(text, _argv(spec), when_at_rest=at_rest)


def _argv(spec: TierSpec) -> tuple[str, ...]:
    assert spec.member_kib is not None
    return commands.enlarge(spec.device, spec.member_kib, fill.fill_step(spec).argv)
