"""The commands stacks and status: the stacks of a project, and one line for each host of a stack."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal

from rackwright import terminal
from rackwright.cli import project
from rackwright.errors import DeclarationError, UserError
from rackwright.foreign import parse_json
from rackwright.locations import stack_names

if TYPE_CHECKING:
    from rackwright.audit.report import AuditResult, UndeclaredThing
    from rackwright.cli.json_types import HostStatus, LastChange, StackStatus


@dataclass(frozen=True)
class StackRow:
    """One stack of the project."""

    stack: str
    """Name of the stack."""
    target: str
    """`rack`, or the twin of the stack; empty if its settings have an error."""
    fleet: str
    """Name of the fleet's file; empty if its settings have an error."""
    hosts: int
    """Number of hosts; 0 if the declaration has an error."""
    problem: str = ""
    """The first error of its settings, or the number of errors in its fleet; empty without errors."""


@dataclass(frozen=True)
class HostRow:
    """The state of one host."""

    host: str
    resources: int
    state: str
    notices: tuple[str, ...] = ()
    """Work in progress, maintenance, and consents that are still declared, each with its resource."""


def complete(incomplete: str) -> list[str]:
    """Return the stacks that begin with *incomplete*, for the shell's completion."""
    try:
        return [name for name in stack_names(project.directory()) if name.startswith(incomplete)]
    except UserError:
        return []


def complete_host(stack: str, incomplete: str) -> list[str]:
    """Return the hosts of *stack* that begin with *incomplete*, for the shell's completion."""
    try:
        return [name for name in project.stack(stack).fleet.hosts if name.startswith(incomplete)]
    except UserError:
        return []


def complete_use(stack: str, uses: Literal["runs", "servers"], incomplete: str) -> list[str]:
    """Return the runs or servers of *stack* that begin with *incomplete*, for the shell's completion."""
    try:
        return [name for name in getattr(project.stack(stack).fleet, uses) if name.startswith(incomplete)]
    except UserError:
        return []


def show_stacks(as_json: bool) -> int:
    """Print the stacks of the project, and return the exit status: 2 if a declaration has errors."""
    rows = [_row(name) for name in stack_names(project.directory())]
    if as_json:
        terminal.show_json({"stacks": rows})
    else:
        _table(("stack", "target", "fleet", "hosts", ""), [(*map(str, vars(row).values()),) for row in rows])
    return 2 if any(row.problem for row in rows) else 0


def _row(name: str) -> StackRow:
    from rackwright.stack.settings import settings

    try:
        values = settings(name, project.directory())
    except DeclarationError as error:
        return StackRow(name, "", "", 0, error.diagnostics[0].problem)
    try:
        return StackRow(name, values["target"], values["fleet"], len(project.stack(name).fleet.hosts))
    except DeclarationError as error:
        count = len(error.diagnostics)
        problem = f"{count} error{'s' * (count > 1)} in its fleet"
        return StackRow(name, values["target"], values["fleet"], 0, problem)


def show_status(name: str, as_json: bool) -> int:
    """Print the last change of the stack and the state of each host, and return the exit status of an audit."""
    from rackwright.audit import evidence, report
    from rackwright.cli import state

    stack = project.stack(name)
    try:
        stack = project.secrets(stack)
    except UserError as error:
        project.notify(f"values that depend on a secret are unknown: {error}")
    names = [host for host in stack.fleet.hosts if host not in stack.maintenance]
    project.notify_twin_off(stack)
    with project.connect_hosts(stack, is_report=True) as hosts:
        found = {**evidence.from_hosts(hosts, names, project.notify), **evidence.from_endpoints(stack, project.notify)}
    compared = report.compare(stack, found)
    rows = host_rows(compared.results, compared.undeclared)
    last = last_change(parse_json(state.pulumi(name, "stack", "history", "--json", "--page-size", "1")))
    if as_json:
        status: StackStatus = {
            "stack": name,
            "exit_status": compared.exit_status,
            "last_change": last,
            "hosts": {row.host: _host_status(row) for row in rows},
        }
        terminal.show_json(status)
        return compared.exit_status
    terminal.show(f"last change: {'none' if last is None else _format_change(last)}")
    lines = [(row.host, str(row.resources), row.state, "; ".join(row.notices)) for row in rows]
    _table(("host", "resources", "state", ""), lines)
    return compared.exit_status


def last_change(history: list[Mapping[str, Any]]) -> "LastChange | None":
    """Return the newest entry of *history*, of `pulumi stack history`: its time in UTC, kind and result."""
    if not history:
        return None
    newest = history[0]
    started = datetime.fromisoformat(newest["startTime"]).astimezone(UTC)
    return {"started_at": started.isoformat(timespec="seconds"), "kind": newest["kind"], "result": newest["result"]}


def _format_change(change: "LastChange") -> str:
    time = datetime.fromisoformat(change["started_at"])
    return f"{time:%Y-%m-%d %H:%M:%S} UTC {change['kind']} {change['result']}"


def _host_status(row: HostRow) -> "HostStatus":
    return {"resources": row.resources, "state": row.state, "notices": row.notices}


def host_rows(results: Iterable["AuditResult"], undeclared: Sequence["UndeclaredThing"] = ()) -> list[HostRow]:
    """Return a row for each host of *results*, which counts the *undeclared* things of the host."""
    by_host = sorted(results, key=_host)
    return [
        _host_row(host, list(group), [item for item in undeclared if item.host == host])
        for host, group in groupby(by_host, key=_host)
    ]


def _host(result: "AuditResult") -> str:
    return result.name.partition("/")[0]


def _host_row(host: str, results: list["AuditResult"], undeclared: Sequence["UndeclaredThing"]) -> HostRow:
    differing = sum(len(result.known_differences) for result in results)
    unknown = sum(len(result.unknown_differences) for result in results)
    unknown += sum(item.is_unknown and item.allowed is None for item in undeclared)
    counts = {"differ": differing, "undeclared": sum(item.counts for item in undeclared), "unknown": unknown}
    state = ", ".join(f"{count} {text}" for text, count in counts.items() if count) or "as declared"
    if any(result.not_reached for result in results):
        state = "not reached"
    elif not any(result.matches or result.differences for result in results):
        state = "not compared"
    notices = tuple(f"{result.name.partition('/')[2] or host}: {result.notice}" for result in results if result.notice)
    return HostRow(host, len(results), state, notices)


def _table(titles: Iterable[str], rows: Iterable[tuple[str, ...]]) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in titles:
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))
    terminal.console().print(terminal.FittingTable(table))
