"""The start of an array that is stopped: from all of its members, or not at all."""

from rackwright.core.contract import Command, Plan
from rackwright.errors import Diagnostic
from rackwright.kinds.tier import boot, luks, owner_file, scrub
from rackwright.kinds.tier.inputs import PlanInputs
from rackwright.kinds.tier.situation import StoppedArray


def assemble(inputs: PlanInputs, stopped: StoppedArray) -> Plan:
    """Return the plan that starts an array of ours from all of its members; anything less is refused."""
    spec, facts, repository = inputs.spec, inputs.facts, inputs.repository
    uuids = {block.array_uuid for block in stopped.superblocks.values()}
    if spec.declared.array or stopped.superblocks.keys() != {*spec.serials} or len(uuids) != 1:
        return Plan(refusals=(_incomplete(inputs, stopped),))
    stop = [Command(f"stop the inactive {spec.name}", ("mdadm", "--stop", spec.device))] if stopped.array else []
    members = tuple(f"${{drive:{serial}}}" for serial in spec.serials)
    argv = ("mdadm", "--assemble", f"/dev/md/{spec.name}", "--run", *members)
    steps = (
        *stop,
        Command(f"assemble the array {spec.name}", argv),
        *boot.repair_steps(spec, facts, repository, inputs.differing_things),
        *scrub.steps(spec, facts, repository, inputs.differing_things),
        *luks.repair_steps(spec, facts, repository, inputs.differing_paths, opens=True),
        boot.mount_step(spec),
        *owner_file.repair_steps(inputs),
    )
    return Plan(steps=steps, by_hand=inputs.drive_differences)


def _incomplete(inputs: PlanInputs, stopped: StoppedArray) -> Diagnostic:
    present = ", ".join(sorted(stopped.superblocks)) or "none"
    return Diagnostic(
        inputs.spec.id,
        f"the array does not run, and its md superblocks are on: {present}",
        f"all of its members: {', '.join(inputs.spec.serials)}",
        "Bring the drives back and run up, or assemble the rest by hand",
        "rackwright makes no array over data",
        id="array-incomplete",
    )
