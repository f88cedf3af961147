"""Drives that are to be members: what they carry, in words, and how they are rid of it."""

from rackwright.facts.storage import Drive
from rackwright.facts.view import NotKnown
from rackwright.kinds.contract import Difference, Run
from rackwright.kinds.tier import commands
from rackwright.spec.units import format_size


def said(item: Difference) -> str:
    """Return what is wanted of a drive as its line says it."""
    low, high = getattr(item.want, "low", None), getattr(item.want, "high", None)
    return f"{format_size(low)} to {format_size(high)}" if low and high else str(item.want)


def covers(consent: str | None, content: str) -> bool:
    """Whether all of *content* is given up: less than that is what an interrupted wipe leaves."""
    return consent is not None and {*content.split(", ")} <= {*consent.split(", ")}


def note(drive: Drive) -> str:
    """Return what a person should see of it in the preview."""
    try:
        content = drive.content or "blank"
    except NotKnown as reason:
        content = str(reason)
    return f"{drive.serial} ({drive.bus}, {format_size(drive.size_bytes)}): {content}"


def wipe(drive: Drive) -> Run:
    return Run(
        f"wipe {drive.serial}: {drive.content}",
        commands.wipe(f"${{drive:{drive.serial}}}"),
        expects={drive.serial: drive.content},
        destroys=(f"{drive.serial}: {drive.content}",),
    )
