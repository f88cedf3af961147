"""Drives that become members: their content in words, the consent to overwrite it, and the wipe."""

import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping

from rackwright.core.contract import Command, Difference
from rackwright.errors import Diagnostic
from rackwright.facts import content
from rackwright.facts.storage import DriveFacts
from rackwright.facts.view import UnknownFact
from rackwright.kinds.tier import commands
from rackwright.kinds.tier.inputs import PlanInputs
from rackwright.schema.units import format_size

IDENTIFYING = {"bus", "size_bytes"}
"""Properties that a drive has for life."""


def present(inputs: PlanInputs, serials: Collection[str]) -> list[DriveFacts]:
    """Return the declared drives with these serials that are in the machine."""
    declared = (part.serial for part in inputs.spec.drives if part.serial in serials)
    return [drive for serial in declared if (drive := inputs.facts.drive(serial))]


def refusals(
    inputs: PlanInputs, serials: Collection[str], ours: Collection[str] = (), looks_inside: bool = True
) -> Iterator[Diagnostic]:
    """Yield why drives cannot become members: absent, not as declared, failing, or not free.

    Args:
        ours: Serials of drives whose content an interrupted creation has written: no consent is needed.
        looks_inside: False where the drives are in the array already.
    """
    for serial in (part.serial for part in inputs.spec.drives if part.serial in serials):
        where, drive = f"hosts.{inputs.spec.host}.drives {serial}", inputs.facts.drive(serial)
        if drive is None:
            help = "Insert it, or correct its serial"
            yield Diagnostic(
                where, "the drive is not in the machine", "all members of the tier", help, id="drive-missing"
            )
        elif unsuitable := [*_identity_refusals(inputs, serial, where)]:
            yield from unsuitable
        elif looks_inside:
            yield from _content_refusals(inputs, drive, where, ours)


def failing_health(inputs: PlanInputs, serial: str) -> Iterator[Difference]:
    """Yield that a drive reports itself as failing."""
    for item in inputs.differences:
        if (item.thing, item.name, item.is_unknown) == (f"drive:{serial}", "health", False):
            yield item


def _identity_refusals(inputs: PlanInputs, serial: str, where: str) -> Iterator[Diagnostic]:
    """Yield why a drive cannot become a member: it is another than declared, or reports itself as failing."""
    own = (item for item in inputs.differences if item.thing == f"drive:{serial}" and item.name in IDENTIFYING)
    for item in (*own, *failing_health(inputs, serial)):
        help = "Take another drive" if item.name == "health" else "Correct the drive or its line"
        yield Diagnostic(
            where, f"got {item.name} {item.actual}", f"{format_wanted(item)}, as declared", help, id="drive-unsuitable"
        )


def _content_refusals(inputs: PlanInputs, drive: DriveFacts, where: str, ours: Collection[str]) -> Iterator[Diagnostic]:
    """Yield why a drive cannot be written: it is mounted, too small, unreadable, or bears data without consent."""
    spec = inputs.spec
    if drive.mountpoints:
        problem, help = (
            f"the drive is mounted at {', '.join(drive.mountpoints)}",
            "Look at its content, and unmount it by hand",
        )
        yield Diagnostic(where, problem, "a drive that is not in use", help, id="drive-busy")
        return
    least = (spec.member_kib or 0) * 1024
    if drive.size_bytes < least:
        expected = f"at least {format_size(least)}, which the array uses of each member"
        help = "Take a larger drive, or declare the size of the smallest"
        yield Diagnostic(where, f"the drive has {format_size(drive.size_bytes)}", expected, help, id="drive-unsuitable")
    try:
        refusal = content_refusal(spec.host, drive, spec.wipe, inputs.repository.consents)
    except UnknownFact as reason:
        problem, help = f"the content of the drive is unknown: {reason}", "Look at its content, and free it by hand"
        yield Diagnostic(where, problem, "a drive that is not in use", help, id="drive-busy")
        return
    if refusal and drive.serial not in ours:
        yield refusal


def format_wanted(item: Difference) -> str:
    """Return the declared property of a drive as its line has it."""
    low, high = getattr(item.want, "low", None), getattr(item.want, "high", None)
    return f"{format_size(low)} to {format_size(high)}" if low and high else str(item.want)


def find_consent(drive: DriveFacts, fleet: Mapping[str, str], command: Mapping[str, str]) -> str | None:
    """Return the consent that counts for a drive: of the command, or a line of the fleet.

    A line of the fleet stands for months, so it counts only where any later write would show in the content.

    Args:
        fleet: Consents that the fleet declares, by serial.
        command: Consents that were given with the command that runs, by serial.
    """
    if drive.serial in command:
        return command[drive.serial]
    return None if drive.unwitnessed_content else fleet.get(drive.serial)


def content_refusal(
    host: str, drive: DriveFacts, fleet: Mapping[str, str], command: Mapping[str, str]
) -> Diagnostic | None:
    """Return why a drive cannot be overwritten: it bears something that no consent covers."""
    present, consent = drive.content, find_consent(drive, fleet, command)
    if not present or content.covers(consent, present):
        return None
    where, problem = f"hosts.{host}.drives {drive.serial}", f"the drive has {present!r}"
    other = consent if consent is not None else fleet.get(drive.serial)
    if other is not None:
        problem += f", and the consent is for {other!r}"
    expected = "a blank drive, or consent to lose exactly this content"
    if not drive.unwitnessed_content:
        help = f'To lose this content, write under hosts.{host}.wipe: {{{drive.serial}: "{present}"}}'
        return Diagnostic(where, problem, expected, help, id="drive-holds-data")
    help = f"To lose this content, run `rackwright up STACK {consent_option(drive)}` before the next write or restart"
    note = (
        f"later writes to {', '.join(drive.unwitnessed_content)} show in no superblock, so a line in the fleet is not"
        " enough"
    )
    return Diagnostic(where, problem, expected, help, note, id="drive-holds-data")


def consent_option(drive: DriveFacts) -> str:
    """Return the option of a command that gives up all that is on a drive."""
    return f"--consent {shlex.quote(f'{drive.serial}={drive.content}')}"


def describe(drive: DriveFacts) -> str:
    """Return the line of the preview about a drive and its content."""
    try:
        present = drive.content or "blank where it was sampled"
        if drive.unwitnessed_content:
            present += f" (later writes to {', '.join(drive.unwitnessed_content)} show in no superblock)"
    except UnknownFact as reason:
        present = str(reason)
    return f"{drive.serial} ({drive.bus}, {format_size(drive.size_bytes)}): {present}"


def wipe_steps(drives: Iterable[DriveFacts]) -> Iterator[Command]:
    """Yield the steps that wipe the drives that are not blank."""
    for drive in drives:
        if drive.content:
            yield Command(
                f"wipe {drive.serial}: {drive.content}",
                commands.wipe(drive.serial),
                expects={drive.serial: drive.content},
                destroys=(f"{drive.serial}: {drive.content}",),
            )


def content_after_wipe(drives: Iterable[DriveFacts]) -> dict[str, str]:
    """Return the content that drives may have when they come into an array, by serial."""
    return {drive.serial: drive.content_after_wipe for drive in drives}
