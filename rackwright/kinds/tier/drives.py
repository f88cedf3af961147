"""Drives that are to be members: what they carry, in words, and how they are rid of it."""

import shlex
from collections.abc import Iterable, Mapping

from rackwright.facts import content
from rackwright.facts.storage import Drive
from rackwright.facts.view import NotKnown
from rackwright.kinds.contract import Difference, Refusal, Run
from rackwright.kinds.tier import commands
from rackwright.spec.units import format_size


def said(item: Difference) -> str:
    """Return what is wanted of a drive as its line says it."""
    low, high = getattr(item.want, "low", None), getattr(item.want, "high", None)
    return f"{format_size(low)} to {format_size(high)}" if low and high else str(item.want)


def consent_for(drive: Drive, fleet: Mapping[str, str], command: Mapping[str, str]) -> str | None:
    """Return the consent that counts for a drive: of the command, or a line of the fleet.

    A line of the fleet stands for months, so it counts only where any later write would show in the content.

    Args:
        fleet: Consents that the fleet declares, by serial.
        command: Consents that were given with the command that runs, by serial.
    """
    if drive.serial in command:
        return command[drive.serial]
    return None if drive.unnoticed else fleet.get(drive.serial)


def occupied(host: str, drive: Drive, fleet: Mapping[str, str], command: Mapping[str, str]) -> Refusal | None:
    """Return why a drive cannot be overwritten: something is on it that no consent covers."""
    found, consent = drive.content, consent_for(drive, fleet, command)
    if not found or content.covers(consent, found):
        return None
    where, got = f"hosts.{host}.drives {drive.serial}", f"got {found!r} on it"
    given = consent if consent is not None else fleet.get(drive.serial)
    if given is not None:
        got += f", and consent for {given!r}"
    if not drive.unnoticed:
        want = "a member is blank, or what it carries is given up"
        fix = f'To lose exactly that, write under hosts.{host}.wipe: {{{drive.serial}: "{found}"}}'
        return Refusal(where, got, want, fix)
    want = (
        f"a member is blank, or what it carries is given up; later writes to {', '.join(drive.unnoticed)} show in no"
        " superblock, so a line in the fleet is not enough"
    )
    fix = f"To lose exactly that, before the next write and restart, run `rackwright up STACK {option(drive)}`"
    return Refusal(where, got, want, fix)


def option(drive: Drive) -> str:
    """Return the option of a command that gives up all that is on a drive."""
    return f"--consent {shlex.quote(f'{drive.serial}={drive.content}')}"


def note(drive: Drive) -> str:
    """Return what a person should see of it in the preview."""
    try:
        found = drive.content or "blank where it was sampled"
        if drive.unnoticed:
            found += f" (later writes to {', '.join(drive.unnoticed)} show in no superblock)"
    except NotKnown as reason:
        found = str(reason)
    return f"{drive.serial} ({drive.bus}, {format_size(drive.size_bytes)}): {found}"


def wipe(drive: Drive) -> Run:
    return Run(
        f"wipe {drive.serial}: {drive.content}",
        commands.wipe(drive.serial),
        expects={drive.serial: drive.content},
        destroys=(f"{drive.serial}: {drive.content}",),
    )


def once_erased(drives: Iterable[Drive]) -> dict[str, str]:
    """Return what has to be on drives that were wiped, or were blank, when they come into an array."""
    return {drive.serial: drive.content_once_erased for drive in drives}
