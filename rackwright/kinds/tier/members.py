"""The steps that open a change of members: note it, free md for it, and put drives into the array."""

from collections.abc import Iterator, Mapping, Sequence

from rackwright.core.contract import Command, Step
from rackwright.facts.storage import DriveFacts
from rackwright.kinds.tier import drives, owner_file
from rackwright.kinds.tier.inputs import PlanInputs
from rackwright.kinds.tier.situation import AssembledArray
from rackwright.kinds.tier.spec import TierSpec


def change_steps(
    inputs: PlanInputs, assembled: AssembledArray, phase: str, free: Sequence[DriveFacts]
) -> Iterator[Step]:
    """Yield the steps before the array gets other members.

    Args:
        free: The drives that come: blank, or wiped with consent.
    """
    yield owner_file.note_change(inputs, phase, assembled.before)
    if assembled.array.sync_action == "check":  # md begins nothing else before that ends
        yield Command(f"end the scrub of {inputs.spec.name}", ("mdadm", "--action=idle", inputs.spec.device))
    yield from drives.wipe_steps(free)


def add_steps(spec: TierSpec, serials: Sequence[str], contents: Mapping[str, str]) -> Iterator[Command]:
    """Yield the step that puts drives into an array, all in one command: md would rebuild the first one alone.

    Args:
        contents: The content that each drive may have by then, by serial.
    """
    if serials:
        argv = ("mdadm", "--manage", spec.device, "--add", *(f"${{drive:{serial}}}" for serial in serials))
        yield Command(f"put {', '.join(serials)} into {spec.name}", argv, expects=contents)
