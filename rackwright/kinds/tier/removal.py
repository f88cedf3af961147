"""The removal of a tier: all of it, with consent; one that was taken over stays as it is."""

from collections.abc import Iterator

from rackwright.core.contract import Command, Difference, Plan, Put, Remove, Step
from rackwright.errors import Diagnostic
from rackwright.facts.facts import Facts
from rackwright.facts.view import UnknownFact
from rackwright.kinds.shared import observation
from rackwright.kinds.shared.identity import refuse_wrong_machine
from rackwright.kinds.shared.unknown_facts import unknown_fact
from rackwright.kinds.tier import boot, commands, luks, scrub
from rackwright.kinds.tier.observe import find_array, find_superblocks
from rackwright.kinds.tier.owner_file import owner_text
from rackwright.kinds.tier.plan import owner_refusals
from rackwright.kinds.tier.spec import TierSpec


def removal(spec: TierSpec, facts: Facts, consent: bool) -> Plan:
    """Return the steps that unmount, stop and erase a tier; none when nothing of it is left.

    The removal of a tier that was taken over removes only the owner file that a replacement has written.
    """
    if not consent and spec.declared.array is None:
        problem, expected = f"the removal of {spec.name} would erase its data", "consent at the tier"
        help = "Write `destroy: allowed` at the tier, run up, then remove it or destroy the stack"
        return Plan(refusals=(Diagnostic(spec.id, problem, expected, help, id="tier-holds-data"),))
    try:
        if refusals := (
            *owner_refusals(spec, facts),
            *_machine_refusals(spec, facts),
            *_interrupted_refusals(spec, facts),
        ):
            return Plan(refusals=refusals)
        return Plan(steps=tuple(_removal_steps(spec, facts)))
    except UnknownFact as reason:
        return Plan(refusals=(unknown_fact(spec.id, reason),))


def _machine_refusals(spec: TierSpec, facts: Facts) -> tuple[Diagnostic, ...]:
    [(name, value)] = spec.identity.items()
    present = observation.identity(facts, name)
    return (
        ()
        if present == value
        else refuse_wrong_machine(spec.host, [Difference(f"host:{spec.host}", name, value, present)])
    )


def _interrupted_refusals(spec: TierSpec, facts: Facts) -> Iterator[Diagnostic]:
    """Yield that a reshape was cut off: its keys cannot be seen, and no key may stay on the drives."""
    array = find_array(facts, spec.array_key)
    if spec.declared.key and array and array.condition == "interrupted":
        yield Diagnostic(
            spec.id,
            "a reshape of the tier was interrupted",
            help="Declare it again, run up, then remove it or destroy the stack",
            note="a removal first erases the keys on the drives, and they are not visible before the reshape ends",
        )


def _removal_steps(spec: TierSpec, facts: Facts) -> Iterator[Step]:
    if spec.declared.array:
        if facts.owner(f"tier-{spec.name}") is not None:
            yield Remove(f"remove {spec.owner_file}", spec.owner_file)
        return
    array, traces = find_array(facts, spec.array_key), find_superblocks(facts, spec.array_key)
    owner = facts.owner(f"tier-{spec.name}") or {}
    phase = owner.get("phase")
    scrub_steps, mount_steps = tuple(scrub.remove_steps(spec, facts)), tuple(boot.unmount_steps(spec, facts))
    files = tuple(boot.remove_steps(spec, facts))
    if not (array or traces or scrub_steps or mount_steps or files) and phase in (None, "removed"):
        return
    serials = ", ".join(sorted(traces))
    yield Put(
        "note in the owner file: removing", spec.owner_file, owner_text(spec, "removing", owner.get("luks")), 0o600
    )
    yield from scrub_steps
    yield from mount_steps
    if spec.declared.key:
        yield from luks.erase_steps(spec, facts, array)
    if array:
        if array.condition != "inactive":
            losses = (f"{spec.id}: everything on it",)
            what = "LUKS header" if spec.declared.key else spec.filesystem
            yield Command(f"erase the {what} on {spec.name}", ("wipefs", "-qa", spec.device), destroys=losses)
        yield Command(f"stop the array {spec.name}", ("mdadm", "--stop", spec.device))
    for serial, block in sorted(traces.items()):
        argv = commands.erase_member(serial, block.array_uuid)
        yield Command(f"erase the md superblock on {serial}", argv, destroys=(f"{serial}: member of {spec.name}",))
    yield from files
    done = f"note in the owner file: removed{' from ' + serials if serials else ''}"
    yield Put(done, spec.owner_file, owner_text(spec, "removed"), 0o600)
