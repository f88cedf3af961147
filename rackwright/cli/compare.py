"""The compare command: two observations of the same hosts."""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rackwright import terminal
from rackwright.cli import project
from rackwright.cli.arguments import CHECK, AsJson
from rackwright.errors import DeclarationError, Diagnostic, UserError, one_line, quantity

if TYPE_CHECKING:
    from rackwright.cli.json_types import FactChange, FactComparison
    from rackwright.facts.facts import Facts

    Observed = Mapping[str, "Facts | UserError"]

app = typer.Typer()
VALUE_MAX = 100
"""Characters of a value that the terminal shows at most."""


@app.command(rich_help_panel=CHECK)
def compare(
    before: Annotated[Path, typer.Argument(metavar="BEFORE", help="Directory of snapshots, or one snapshot.")],
    after: Annotated[
        str,
        typer.Argument(metavar="AFTER", help="The same, or the name of a stack, whose hosts are then read."),
    ],
    every: Annotated[
        bool, typer.Option("--all", help="Also compare values that change by themselves, such as counters.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show which facts differ between two snapshots, or between a snapshot and the hosts. Read-only.

    Exit status: 0 no fact differs, 1 one differs, 3 a host is missing on one side or not reached.
    """
    first = _read_snapshots(before)
    second = _read_snapshots(Path(after)) if Path(after).exists() else _read_hosts(after, first)
    result = compare_observations(first, second, every)
    if as_json:
        terminal.show_json(result)
    else:
        for line in _lines(result):
            terminal.show(line)
    raise typer.Exit(1 if result["changes"] else 3 if result["missing"] else 0)


def compare_observations(before: "Observed", after: "Observed", every: bool) -> "FactComparison":
    """Return the differences between the facts of *before* and *after*, host by host."""
    from rackwright.facts.compare import changes

    compared: list[str] = []
    found: list[FactChange] = []
    missing: dict[str, str] = {}
    for host in sorted({*before, *after}):
        old, new = before.get(host), after.get(host)
        if old is None or new is None:
            missing[host] = "the earlier snapshots do not have the host" if old is None else "the host is missing later"
        elif isinstance(old, UserError) or isinstance(new, UserError):
            missing[host] = str(new if isinstance(new, UserError) else old)
        else:
            compared.append(host)
            found += (_change(host, *each) for each in changes(old, new, every))
    return {"hosts": compared, "changes": found, "missing": missing}


def _change(host: str, path: str, old: Any, new: Any) -> "FactChange":
    from rackwright.facts.compare import MISSING

    change: FactChange = {"host": host, "path": path}
    if old is not MISSING:
        change["before"] = old
    if new is not MISSING:
        change["after"] = new
    return change


def _read_snapshots(place: Path) -> "Observed":
    """Return the newest facts of each host in *place*: a file, the directory of a host, or one with hosts."""
    from rackwright.facts import snapshot

    if place.is_file():
        return {place.resolve().parent.name: snapshot.read(place)}
    if not place.is_dir():
        problem, help = "there is no such file or directory", "Name what `rackwright audit --save` wrote"
        raise DeclarationError(Diagnostic(str(place), problem, "snapshots", help))
    now = datetime.now(UTC)
    directory = place.resolve()
    if several := snapshot.load(directory, now):
        return several
    facts = snapshot.load_host(directory.parent, directory.name, now)
    if facts is None:
        help = "Write some with `rackwright audit --save`"
        raise DeclarationError(Diagnostic(str(place), "the directory has no snapshots", "snapshots of hosts", help))
    return {directory.name: facts}


def _read_hosts(stack: str, earlier: "Observed") -> "Observed":
    """Return the present facts of the hosts of *stack* that *earlier* has."""
    from rackwright.audit import evidence

    loaded = project.stack(stack)
    names = [host for host in loaded.fleet.hosts if host in earlier]
    with project.connect_hosts(loaded) as hosts:
        return evidence.from_hosts(hosts, names, project.notify)


def _lines(result: "FactComparison") -> Iterator[str]:
    for change in result["changes"]:
        old, new = (_format(change[side]) if side in change else "absent" for side in ("before", "after"))
        yield f"{change['host']}: {one_line(change['path'])}"
        yield f"  before  {old}"
        yield f"  after   {new}"
    for host, reason in result["missing"].items():
        yield f"{host}: not compared: {one_line(reason)}"
    yield f"{quantity(len(result['hosts']), 'host')} compared, {quantity(len(result['changes']), 'fact')} differ"


def _format(value: Any) -> str:
    text = one_line(value if isinstance(value, str) else json.dumps(value))
    return text if len(text) <= VALUE_MAX else f"{text[:VALUE_MAX]}…"
