"""The growth of a filesystem to all of its array: at once, or when md rests."""

from collections.abc import Iterator

from rackwright.core.contract import Command, WhenAtRest
from rackwright.kinds.tier import commands
from rackwright.kinds.tier.inputs import PlanInputs
from rackwright.kinds.tier.spec import TierSpec

WEEK_SECONDS = 7 * 24 * 3600.0


def fill_steps(inputs: PlanInputs, gains_room: bool = False) -> Iterator[Command]:
    """Yield the step that grows the filesystem, where it leaves some of its array unused.

    Args:
        gains_room: True if a reshape before this step has made the array larger.
    """
    unfilled = inputs.differs("filesystem", "fills_array") or inputs.differs("luks", "fills_array")
    unfilled |= inputs.differs("md", "array_size")  # a step before this one gives the array its whole size again
    if unfilled or (gains_room and inputs.spec.declared.wait_for_sync):
        yield fill_step(inputs.spec)


def fill_step(spec: TierSpec) -> Command:
    argv = commands.grow_filesystem(spec.filesystem, spec.filesystem_device, spec.declared.mount)
    if spec.declared.key:
        argv = commands.grow_mapping(spec.mapping, spec.key_path, argv)
    return Command(f"let the {spec.filesystem} on {spec.name} take all that the array has", argv)


def schedule_fill_steps(spec: TierSpec, gains_room: bool) -> Iterator[Command]:
    """Yield the step that grows the filesystem when md rests; `up` does not wait for that.

    Args:
        gains_room: True if a reshape that runs by then makes the array larger.
    """
    if gains_room and not spec.declared.wait_for_sync:
        at_rest = WhenAtRest(spec.array_key, commands.waiting_unit("grow", spec.array_key))
        text = f"let the {spec.filesystem} on {spec.name} grow once that is done"
        yield Command(text, fill_step(spec).argv, when_at_rest=at_rest)


def wait_steps(spec: TierSpec) -> Iterator[Command]:
    """Yield the step that waits for md, where that is declared."""
    if spec.declared.wait_for_sync:
        yield wait_step(spec)


def wait_step(spec: TierSpec) -> Command:
    """Return the step that waits until md rests."""
    argv = commands.wait_for_sync(spec.device)
    return Command(f"wait for the sync of {spec.name}", argv, timeout_seconds=WEEK_SECONDS)
