"""The replacement in an array: the members that leave, and the drives that come."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from rackwright.facts.facts import Facts
from rackwright.facts.storage import Array, Superblock
from rackwright.kinds.tier.spec import TierSpec


@dataclass(frozen=True)
class Replacement:
    """The drives that leave an array and those that take their places. Serials throughout."""

    failed_members: tuple[str, ...]
    """Members that do not work, and are not declared any more."""
    working_members: tuple[str, ...]
    """Members that work, and are not declared any more: each is copied before it goes."""
    idle_spares: tuple[str, ...]
    """Spares that wait, and are not declared any more."""
    newcomers: tuple[str, ...]
    """Declared drives that have no place in the array yet: first those for *failed_members*."""
    newcomers_in_array: frozenset[str]
    """Newcomers that wait in the array already."""
    copies_running: frozenset[str]
    """Working members whose successor is in the array and is being written."""

    @property
    def copies_to_begin(self) -> tuple[str, ...]:
        """Working members whose copy was not begun yet."""
        return tuple(serial for serial in self.working_members if serial not in self.copies_running)


def find_replacement(spec: TierSpec, facts: Facts, array: Array, before: frozenset[str]) -> Replacement | None:
    """Return the replacement in an array that runs; None where its members stay.

    Args:
        before: The members that the array was made of, as far as that is known.
    """
    declared, serials = frozenset(spec.serials), {drive.name: drive.serial for drive in facts.drives}
    slots: dict[int, set[str]] = {}
    working: set[str] = set()
    for member in array.members:
        if "faulty" not in member.state and member.name in serials:
            working.add(serials[member.name])
            if member.slot is not None:
                slots.setdefault(member.slot, set()).add(serials[member.name])
    leaving = (before | working) - declared
    running = {serial for sharing in slots.values() for serial in sharing & leaving if sharing & declared}
    if before == declared and leaving <= running:
        return None
    placed = {serial for sharing in slots.values() for serial in sharing}
    return Replacement(
        failed_members=tuple(sorted(leaving - working)),
        working_members=tuple(sorted(leaving & working & placed)),
        idle_spares=tuple(sorted(leaving & working - placed)),
        newcomers=tuple(serial for serial in spec.serials if serial not in placed),
        newcomers_in_array=declared & working - placed,
        copies_running=frozenset(running),
    )


def without_former(superblocks: Mapping[str, Superblock], declared: Collection[str]) -> dict[str, Superblock]:
    """Return *superblocks* without those of drives that were members once: the array has gone on without them."""
    events = [block.events for serial, block in superblocks.items() if serial in declared]
    return {
        serial: block
        for serial, block in superblocks.items()
        if serial in declared or not events or block.events >= min(events)
    }
