"""The page of `status`: gathers what the page shows beside the state, and writes the file."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rackwright.errors import UserError

if TYPE_CHECKING:
    from rackwright.audit.report import AuditReport
    from rackwright.hosts.verdicts import QuarantineLook
    from rackwright.stack import Stack
    from rackwright.status.alerts import FiringAlert
    from rackwright.status.overview import Overview
    from rackwright.status.page import Change

READING = ("audit",)
"""Commands of the log that change no host."""


def write(
    page: Path,
    stack: "Stack",
    compared: "AuditReport",
    overview: "Overview",
    alerts: "tuple[FiringAlert, ...] | str",
    last_change: str,
    quarantine: "QuarantineLook | None" = None,
) -> None:
    """Write the page of *stack* to the file *page*, which others see as a whole or not at all."""
    from rackwright.audit.formats.document import AuditDocument
    from rackwright.audit.formats.drawing import draw_stack
    from rackwright.audit.formats.finding import collect
    from rackwright.files import write_atomic
    from rackwright.fleet.resource_place import ResourcePlaces
    from rackwright.status.page import NO_MONITORING, Sight, render

    findings = collect(compared, ResourcePlaces(stack.fleet_file), stack.fleet_file_in_project)
    drawing = draw_stack(stack, compared, findings)
    document = AuditDocument(compared, findings, drawing, made_at=datetime.now(UTC))
    known_alerts = NO_MONITORING if stack.fleet.monitoring is None else alerts
    texts = {host: each.text for host, each in quarantine.quarantine.hosts.items()} if quarantine else {}
    sight = Sight(document, overview, known_alerts, changes(stack.name), texts)
    write_atomic(page, render(stack, sight, last_change))


def changes(stack: str) -> "tuple[Change, ...] | str":
    """Return the operations on *stack* that the log has, the newest first; or the reason why they are unknown."""
    from rackwright.cli import recording
    from rackwright.log import chain, reading
    from rackwright.status.page import Change

    path = recording.current_log().path
    if not path.exists():
        return ()
    try:
        checked = chain.check(reading.read_log(path))
    except UserError as error:
        return f"{error.diagnostic.where}: {error.diagnostic.problem}"
    if checked.broken:
        return f"{path}: {checked.broken}"
    of_stack = reading.Filter(stack=stack)
    entries = [
        line.data for line in checked.lines if of_stack.matches(line) and line.data.get("command") not in READING
    ]
    operations = reversed([*reading.describe_operations(entries)])
    return tuple(Change(each.lines[0], tuple(map(str.strip, each.lines[1:])), each.hosts) for each in operations)
