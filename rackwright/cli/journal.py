"""The command journal: it shows the entries of the journals of a stack's hosts."""

import re
from typing import TYPE_CHECKING, Annotated

import typer

from rackwright import terminal
from rackwright.cli import project
from rackwright.cli.arguments import CHECK, AsJson, StackName, complete_host

if TYPE_CHECKING:
    from rackwright.cli.json_types import JournalEntries
    from rackwright.errors import Diagnostic
    from rackwright.status.journal import JournalEntry

app = typer.Typer()
UNREAD = 3
TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2})?)?")


@app.command(rich_help_panel=CHECK)
def journal(
    stack: StackName,
    host: Annotated[
        str, typer.Argument(metavar="[HOST]", help="Host; without it, all hosts.", autocompletion=complete_host)
    ] = "",
    unit: Annotated[str, typer.Argument(metavar="[UNIT]", help="systemd unit; without it, all units.")] = "",
    since: Annotated[
        str, typer.Option("--since", metavar="TIME", help="Entries since then: 30min, 6h, or 2026-12-01T08:00 in UTC.")
    ] = "1h",
    lines: Annotated[
        int,
        typer.Option(
            "--lines", "-n", metavar="NUMBER", min=1, max=10_000, help="Newest entries; each host has a part."
        ),
    ] = 200,
    as_json: AsJson = False,
) -> None:
    """Show entries of the journals of all hosts in the order of time, as the monitoring host has them.

    The name of a host is that of its certificate; time, unit and message are what the host has sent. Hosts without an
    entry are named. Exit status: 0 the journals were read, 2 the fleet collects none, 3 the monitoring host was not
    reached, or the journal of a host was not read, 4 no journal was read.
    """
    from rackwright.errors import DeclarationError
    from rackwright.status import journal as journals

    loaded = project.stack(stack)
    if wrong := [*loaded.unknown_host_errors(*([host] if host else [])), *_problems(unit)]:
        raise DeclarationError(*wrong)
    names = [host] if host else [name for name, each in loaded.fleet.hosts.items() if not each.retired]
    earliest = _seconds(since)
    with project.connect_hosts(loaded) as hosts:
        found = journals.read(hosts, loaded, names, unit, earliest, lines)
    if as_json:
        document: JournalEntries = {
            "entries": found.entries,
            "without": found.without,
            "shortened": found.shortened,
            "unread": found.unread,
        }
        terminal.show_json(document)
    else:
        for entry in found.entries:
            terminal.show(_line(entry))
    for name in found.without:
        project.notify(f"note: no entry of {name}")
    for name in found.shortened:
        project.notify(f"note: earlier entries of {name} are too long, and are not shown")
    for name, reason in found.unread.items():
        project.notify(f"the journal of {name} was not read: {reason}")
    raise typer.Exit(UNREAD if found.unread else 0)


def _line(entry: "JournalEntry") -> str:
    """Return an entry as one line: a line break of a host begins no line of another one."""
    from rackwright.errors import one_line

    return one_line(f"{entry.time} {entry.host} {entry.unit or entry.program or '-'}: {entry.message}")


def _problems(unit: str) -> "list[Diagnostic]":
    from rackwright.errors import Diagnostic
    from rackwright.status.journal import UNIT

    if not unit or UNIT.fullmatch(unit):
        return []
    return [Diagnostic("UNIT", f"got {unit!r}", "the name of a systemd unit", "Write it like ssh.service")]


def _seconds(since: str) -> float:
    """Return a time span before now, or a time in UTC, in seconds since 1970.

    Raises:
        DeclarationError: It is neither.
    """
    import time
    from datetime import UTC, datetime

    from rackwright.errors import DeclarationError, Diagnostic
    from rackwright.schema.problem import Problem
    from rackwright.schema.units import parse_time

    try:
        if TIME.fullmatch(since):
            return max(datetime.fromisoformat(since).replace(tzinfo=UTC).timestamp(), 0)
        return max(time.time() - parse_time(since), 0)
    except (Problem, ValueError):
        expected, help = "a number of min or h, or a time in UTC", "Write it like 30min, 6h or 2026-12-01T08:00"
        raise DeclarationError(Diagnostic("--since", f"got {since!r}", expected, help)) from None
