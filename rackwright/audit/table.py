"""Print the report of an audit as a table for people."""

from collections.abc import Iterator
from itertools import groupby

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rackwright.audit.report import AuditReport, AuditResult, Undeclared
from rackwright.core.contract import Absent, Difference, UnknownValue
from rackwright.core.wording import format_value
from rackwright.errors import one_line

_LONG = 60
Row = tuple[str, str, str, str, str]


def show(report: AuditReport, console: Console) -> None:
    """Print the differences and the unknown properties, then the remedies, then the totals."""
    rows = [row for result in report.results for row in _rows(result)]
    rows += [_undeclared_row(item) for item in report.undeclared]
    rows += [(name, "[cyan]notice[/]", _cell(text), "", "") for name, text in report.notices.items()]
    if rows:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for title in ("resource", "", "claim", "found", "wanted"):
            table.add_column(title, overflow="fold")
        for row in rows:
            table.add_row(*row)
        console.print(table)
    for line in dict.fromkeys(_remedies(report)):
        console.print(escape(line), soft_wrap=True)
    console.print(_totals(report), soft_wrap=True)


def _rows(result: AuditResult) -> Iterator[Row]:
    for thing, group in groupby(result.differences, key=lambda item: item.thing):
        items = list(group)
        if len(items) > 1 and all(isinstance(item.actual, Absent) for item in items):
            yield (
                result.name,
                "[red]differs[/]",
                _cell(thing),
                "absent",
                "",
            )  # the properties of a missing thing tell nothing more
        else:
            yield from (_row(result.name, item) for item in items)
    if result.not_reached:
        yield result.name, "[yellow]unknown[/]", "everything", "not reached", ""
    if result.notice:
        yield result.name, "[cyan]notice[/]", _cell(result.notice), "", ""


def _row(name: str, item: Difference) -> Row:
    mark = "[yellow]unknown[/]" if item.is_unknown else "[red]differs[/]"
    if isinstance(item.want, UnknownValue):
        actual, want = format_value(item.want), ""
    elif item.secret:
        actual, want = "(secret)", "(secret)"
    else:
        actual, want = format_value(item.actual), format_value(item.want)
    return name, mark, _cell(item.path), _cell(_short(actual)), _cell(_short(want))


def _undeclared_row(item: Undeclared) -> Row:
    mark = "[yellow]unknown[/]" if item.is_unknown else "[red]undeclared[/]"
    if item.allowed is not None:
        mark = "[green]allowed[/]"
    return item.host, mark, _cell(f"{item.rule} {item.thing}"), _cell(_short(item.found)), _cell(item.allowed or "")


def _cell(text: str) -> str:
    """Return *text* as one line without markup, so that the text of a host cannot forge a row."""
    return escape(one_line(text))


def _short(text: str) -> str:
    return text if len(text) <= _LONG else f"{text[:_LONG]}…"


def _remedies(report: AuditReport) -> Iterator[str]:
    """Yield the remedy of each difference, and the error of each resource that was not reached."""
    for result in report.results:
        for item in result.differences:
            if item.remedy:
                yield one_line(f"{item.thing}: {item.remedy}")
        if result.not_reached:
            yield result.not_reached
    for found in report.undeclared:
        if found.allowed is None and found.remedy:
            yield one_line(f"{found.rule}: {found.remedy}")


def _unknown(report: AuditReport) -> int:
    return sum(len(result.unknown_differences) for result in report.results) + sum(
        item.is_unknown and item.allowed is None for item in report.undeclared
    )


def _totals(report: AuditReport) -> str:
    results = report.results
    parts = [
        f"{len(results)} resources",
        f"{sum(result.matches for result in results)} properties hold",
        f"{sum(len(result.known_differences) for result in results)} differ",
        f"{_unknown(report)} unknown",
    ]
    if unreachable := sorted({result.name.split("/")[0] for result in results if result.not_reached}):
        parts.append(f"not reached: {', '.join(unreachable)}")
    if undeclared := sum(item.counts for item in report.undeclared):
        parts.append(f"{undeclared} undeclared")
    if allowed := sum(item.allowed is not None for item in report.undeclared):
        parts.append(f"{allowed} allowed")
    if hidden := sum(result.not_rehearsable for result in results):
        parts.append(f"{hidden} not rehearsable here")
    return f"{report.stack}: {', '.join(parts)}"
