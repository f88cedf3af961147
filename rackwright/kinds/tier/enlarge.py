"""Members that are all larger than what is used of them: whether md can take the rest, and what is done.

md only gives an array another size while it rests, so the last successor is copied onto before.
"""

from collections.abc import Iterator

from rackwright.facts.storage import Array
from rackwright.kinds.contract import Refusal, Run, WhenAtRest
from rackwright.kinds.tier import commands
from rackwright.kinds.tier.spec import TierSpec


def is_due(spec: TierSpec, array: Array) -> bool:
    """Whether there is more of each declared drive than *array* uses; of RAID0, which takes all, there never is."""
    return spec.array is None and (spec.member_kib or 0) > array.member_bytes // 1024


def refusals(spec: TierSpec, array: Array, mended: bool) -> Iterator[Refusal]:
    """Yield why more of each member cannot be taken.

    Args:
        mended: Whether the members that it lacks are coming.
    """
    where, got = f"{spec.id}: md member_kib", f"got {array.member_bytes // 1024}, and {spec.member_kib} are there"
    if spec.level == "raid5" and (spec.ppl or array.ppl):
        fix = "Declare `ppl: false` and run up; `ppl: true` again once it has its size"
        yield Refusal(where, got, "md enlarges no array that keeps a partial parity log", fix)
    elif array.condition in ("degraded", "failed", "interrupted") and not mended:
        fix = "Mend it first, and run again"
        yield Refusal(where, f"{got}, while the array is {array.condition}", "a whole array is enlarged", fix)


def step(spec: TierSpec, device: str, filesystem: Run) -> Run:
    """Return the step that takes *spec*'s share of each member.

    Args:
        filesystem: The step that lets it have that.
    """
    return Run(f"let {spec.name} take all of its members", _argv(spec, device, filesystem))


def later(spec: TierSpec, device: str, filesystem: Run) -> Run:
    """Return the step that has it done when md rests, however long that takes; nobody waits for it."""
    at_rest = WhenAtRest(spec.array_key, commands.waiting_unit("enlarge", spec.array_key))
    text = f"let {spec.name} take all of its members once that is done"
    return Run(text, _argv(spec, device, filesystem), when_at_rest=at_rest)


def _argv(spec: TierSpec, device: str, filesystem: Run) -> tuple[str, ...]:
    assert spec.member_kib is not None
    return commands.enlarge(device, spec.member_kib, filesystem.argv)
