"""The command status: the last change of a stack, and the state of its hosts, tiers, GPUs, runs, servers and alerts."""

import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rackwright import terminal
from rackwright.cli import project
from rackwright.errors import UserError
from rackwright.foreign import parse_json

if TYPE_CHECKING:
    from rich.console import RenderableType

    from rackwright.audit.report import AuditReport, AuditResult, UndeclaredThing
    from rackwright.cli.json_types import HostStatus, LastChange, StackStatus
    from rackwright.hosts.pool import Hosts
    from rackwright.hosts.verdicts import QuarantineLook
    from rackwright.stack import Stack
    from rackwright.status.alerts import FiringAlert
    from rackwright.status.gpus import GpuReport
    from rackwright.status.overview import Overview
    from rackwright.status.servers import ServerReport


@dataclass(frozen=True)
class HostRow:
    """The state of one host."""

    host: str
    resources: int
    state: str
    notices: tuple[str, ...] = ()
    """Work in progress, maintenance, and consents that are still declared, each with its resource."""


@dataclass(frozen=True)
class Look:
    """One look at a stack."""

    compared: "AuditReport"
    overview: "Overview"
    alerts: "tuple[FiringAlert, ...] | str" = ()
    """The alerts that fire, or the reason why they are unknown; none without monitoring."""
    quarantine: "QuarantineLook | None" = None
    """The hosts in quarantine; None without a declared one."""


def show(name: str, as_json: bool, watch: bool, seconds: float, page: Path | None = None) -> int:
    """Print the last change of the stack and the state of its parts, and return the exit status of an audit.

    Args:
        watch: Print the state again every *seconds*, until Ctrl-C.
        page: File for the page of the racks, which each look writes again; None for no page.
    """
    if page is not None:
        project.require_writable(page)
    stack = project.stack(name)
    try:
        stack = project.secrets(stack)
    except UserError as error:
        project.notify(f"values that depend on a secret are unknown: {error}")
    project.notify_twin_off(stack)
    if watch and not as_json and terminal.console().is_terminal:
        return _watch(stack, seconds, page)
    with project.connect_hosts(stack, is_report=True) as hosts:
        look = _look(stack, hosts)
    last = _last_change_of(name)
    if page is not None:
        _write_page(page, stack, look, last)
    if as_json:
        terminal.show_json(_as_json(stack, look, last))
    else:
        terminal.console().print(*_lines(look, last), sep="\n")
    return look.compared.exit_status


def _write_page(page: Path, stack: "Stack", look: Look, last: "LastChange | None") -> None:
    from rackwright.cli import status_page

    status_page.write(page, stack, look.compared, look.overview, look.alerts, _describe_change(last), look.quarantine)


def _describe_change(last: "LastChange | None") -> str:
    return "none" if last is None else _format_change(last)


def _watch(stack: "Stack", seconds: float, page: Path | None) -> int:
    """Show the state until Ctrl-C, and return the exit status of the last look."""
    from rich.console import Group
    from rich.live import Live

    from rackwright.cli.ending import stop_event
    from rackwright.hosts.pool import Hosts

    stop, hosts = stop_event(), Hosts(stack.endpoints, stack.salt)
    with Live(console=terminal.console(), auto_refresh=False) as live:
        for look in _looks(stack, hosts, seconds, stop):
            time_of_look = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC, again every {seconds:g} s until Ctrl-C"
            last = _last_change_of(stack.name)
            live.update(Group(*_lines(look, last), time_of_look), refresh=True)
            if page is not None:
                _write_page(page, stack, look, last)
    hosts.close()
    return look.compared.exit_status


def _looks(stack: "Stack", hosts: "Hosts", seconds: float, stop: threading.Event) -> Iterator[Look]:
    """Yield a look at all hosts every *seconds* until *stop* is set, the first one now."""
    while True:
        began = time.monotonic()
        yield _look(stack, hosts, is_quiet=True)
        if stop.wait(max(0.0, seconds - (time.monotonic() - began))):
            return
        hosts.try_again()


def _look(stack: "Stack", hosts: "Hosts", is_quiet: bool = False) -> Look:
    """Return the state by a new probe of each host; a quiet look notifies of nothing."""
    from rackwright.audit import evidence, report
    from rackwright.stack import declare
    from rackwright.status import overview

    def progress(text: str) -> None:
        if not is_quiet:
            project.notify(text)

    resources = tuple(declare(stack))
    names = [host for host in stack.fleet.hosts if host not in stack.maintenance]
    found = {**evidence.from_hosts(hosts, names, progress, fresh=True), **evidence.from_endpoints(stack, progress)}
    return Look(
        report.compare_each(stack, resources, found.items()),
        overview.observe(stack, resources, found),
        _alerts(stack, hosts),
        _quarantine(stack, hosts),
    )


def _quarantine(stack: "Stack", hosts: "Hosts") -> "QuarantineLook | None":
    from rackwright.hosts import verdicts

    receiver = verdicts.receiver_of(stack.fleet)
    return None if receiver is None else verdicts.look(hosts, stack, receiver)


def _alerts(stack: "Stack", hosts: "Hosts") -> "tuple[FiringAlert, ...] | str":
    from rackwright.status import alerts

    if stack.fleet.monitoring is None:
        return ()
    try:
        return tuple(alerts.alerts(hosts, stack))
    except UserError as error:
        return f"{error.diagnostic.where}: {error.diagnostic.problem}"


def _last_change_of(name: str) -> "LastChange | None":
    from rackwright.cli import state

    return last_change(parse_json(state.pulumi(name, "stack", "history", "--json", "--page-size", "1")))


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


def host_rows(
    results: Iterable["AuditResult"],
    undeclared: Sequence["UndeclaredThing"] = (),
    quarantine: "QuarantineLook | None" = None,
) -> list[HostRow]:
    """Return a row for each host of *results*, which counts the *undeclared* things of the host."""
    by_host = sorted(results, key=_host)
    rows = [
        _host_row(host, list(group), [item for item in undeclared if item.host == host])
        for host, group in groupby(by_host, key=_host)
    ]
    texts = {row.host: quarantine.text(row.host) if quarantine else None for row in rows}
    return [replace(row, notices=tuple(filter(None, (texts[row.host], *row.notices)))) for row in rows]


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


def _as_json(stack: "Stack", look: Look, last: "LastChange | None") -> "StackStatus":
    from rackwright.status import gpus

    rows = host_rows(look.compared.results, look.compared.undeclared, look.quarantine)
    return {
        "stack": stack.name,
        "exit_status": look.compared.exit_status,
        "last_change": last,
        "hosts": {row.host: _host_status(row) for row in rows},
        "tiers": {row.name: {"state": row.state, "details": row.details} for row in look.overview.tiers},
        "gpus": gpus.as_json(look.overview.gpus)["gpus"],
        "runs": {run.name: run.as_json() for run in look.overview.runs},
        "servers": {server.name: server.as_json() for server in look.overview.servers},
        "alerts": {"unknown": look.alerts} if isinstance(look.alerts, str) else look.alerts,
        "quarantine": look.quarantine.as_json() if look.quarantine else None,
    }


def _lines(look: Look, last: "LastChange | None") -> Iterator["RenderableType"]:
    """Yield a line about the last change, and a table of each sort of parts that the stack has."""
    yield f"last change: {_describe_change(last)}"
    hosts = host_rows(look.compared.results, look.compared.undeclared, look.quarantine)
    host_texts = [(row.host, str(row.resources), row.state, "; ".join(row.notices)) for row in hosts]
    tiers = [(row.name, row.state, row.details) for row in look.overview.tiers]
    runs = [(run.name, run.summary) for run in look.overview.runs]
    servers = [line for server in look.overview.servers for line in _server_lines(server)]
    for titles, rows in (
        (("host", "resources", "state", ""), host_texts),
        (("tier", "state", ""), tiers),
        (("host", "GPUs", "used", "assigned", ""), [*_gpu_lines(look.overview.gpus)]),
        (("run", "state"), runs),
        (("server", "host", "state"), servers),
        (("alert", "host", "severity", ""), [*_alert_lines(look.alerts)]),
    ):
        if rows:
            yield ""
            yield terminal.table(titles, rows)
    if look.quarantine and look.quarantine.unknown:
        yield ""
        yield f"verdicts of quarantine since the last copy are unknown: {look.quarantine.unknown}"


def _alert_lines(alerts: "tuple[FiringAlert, ...] | str") -> Iterator[tuple[str, ...]]:
    if isinstance(alerts, str):
        yield "unknown", "", "", alerts
    else:
        yield from ((each.alert, each.host, each.severity, each.text) for each in alerts)


def _gpu_lines(report: "GpuReport") -> Iterator[tuple[str, ...]]:
    """Yield a row for each host with GPUs: their number, mean use, the number that is assigned, and alerts."""
    for host, group in groupby(report.rows, key=lambda row: row.host):
        rows = list(group)
        gpus = [row for row in rows if row.index is not None]
        used = [value for row in gpus if (value := row.figures.get("utilisation_percent")) is not None]
        assigned = str(sum(bool(row.assigned_to) for row in gpus))
        notes = [alert for row in rows for alert in row.alerts]
        notes += [f"unknown: {reason}" for reason in dict.fromkeys(each for row in rows for each in row.unknown)]
        notes += [f"not reached: {row.not_reached.diagnostic.problem}" for row in rows if row.not_reached]
        mean = f"{sum(used) / len(used):.0f} %" if used else "?"
        yield host, str(len(gpus)) if gpus else "?", mean, assigned if gpus else "?", "; ".join(notes)


def _server_lines(server: "ServerReport") -> Iterator[tuple[str, str, str]]:
    from rackwright.status.servers import describe_host

    for number, (host, report) in enumerate(server.hosts.items()):
        yield "" if number else server.name, host, describe_host(report)
