"""The continuation of a reshape that was cut off; other steps follow once the content is visible."""

from collections.abc import Iterator

from rackwright.core.contract import Command, Plan, Step
from rackwright.errors import Diagnostic
from rackwright.kinds.tier import commands, enlarge, fill, members, owner_file, repair, replace
from rackwright.kinds.tier.inputs import PlanInputs
from rackwright.kinds.tier.situation import InterruptedReshape


def resume(inputs: PlanInputs, interrupted: InterruptedReshape) -> Plan:
    """Return the plan that goes on with a reshape; no drive comes into the array before it has ended."""
    spec, replacement = inputs.spec, interrupted.replacement
    if refusals := repair.assembled_refusals(inputs, interrupted, _refusals(inputs, interrupted)):
        return Plan(refusals=refusals)
    gains_room = spec.level != "raid1"
    steps = (
        *_member_steps(inputs, interrupted),
        Command(f"go on with the reshape of {spec.name}", commands.continue_reshape(spec.device)),
        *fill.schedule_fill_steps(spec, gains_room),
        *repair.repair_steps(inputs, interrupted),
        *(fill.wait_steps(spec) if replacement else ()),
        *(enlarge.enlarge_at_rest_steps(spec) if interrupted.is_larger else ()),
        *fill.fill_steps(inputs, gains_room),
        *([owner_file.note_ready(inputs)] if replacement else owner_file.repair_steps(inputs)),
    )
    notes = (*repair.spares_in_use(inputs, interrupted),)
    return Plan(steps, by_hand=repair.manual_differences(inputs, interrupted, restored=True), notes=notes)


def _refusals(inputs: PlanInputs, interrupted: InterruptedReshape) -> Iterator[Diagnostic]:
    """Yield why the reshape cannot go on: what is declared needs more than its end."""
    if interrupted.replacement:
        yield from replace.refusals(inputs, interrupted, interrupted.replacement)
        return
    if interrupted.is_larger:
        yield from enlarge.refusals(inputs.spec, interrupted.array, completes=False)
    yield from repair.place_refusals(inputs.spec, interrupted.array)


def _member_steps(inputs: PlanInputs, interrupted: InterruptedReshape) -> Iterator[Step]:
    """Yield the steps that note the members which the reshape gives the array, and let former ones go."""
    if replacement := interrupted.replacement:
        yield from members.change_steps(inputs, interrupted, "replacing", free=())
        yield from replace.exchange_steps(inputs, interrupted, replacement, coming=(), contents={})
    else:
        yield from repair.let_go_steps(inputs.spec, interrupted.array, interrupted.lingering)
