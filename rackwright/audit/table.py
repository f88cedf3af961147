"""The audit as a table for people."""

from collections.abc import Iterator
from itertools import groupby

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rackwright.audit.report import Report, Result
from rackwright.core.contract import Absent, Difference, UnknownValue
from rackwright.core.wording import format_value
from rackwright.errors import one_line

_LONG = 60
Row = tuple[str, str, str, str, str]


def show(report: Report, console: Console) -> None:
    """Print what differs and what is unknown, the remedies, then the sums."""
    rows = [row for result in report.results for row in _rows(result)]
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
    console.print(_sums(report), soft_wrap=True)


def _rows(result: Result) -> Iterator[Row]:
    for thing, group in groupby(result.differences, key=lambda item: item.thing):
        items = list(group)
        if len(items) > 1 and all(isinstance(item.actual, Absent) for item in items):
            yield result.name, "[red]differs[/]", _cell(thing), "absent", ""  # what a missing thing is like is no news
        else:
            yield from (_row(result.name, item) for item in items)
    if result.not_reached:
        yield result.name, "[yellow]unknown[/]", "everything", "not reached", ""
    if result.notice:
        yield result.name, "[cyan]notice[/]", _cell(result.notice), "", ""


def _row(name: str, item: Difference) -> Row:
    mark = "[yellow]unknown[/]" if item.is_unknown else "[red]differs[/]"
    if isinstance(item.want, UnknownValue):
        found, want = format_value(item.want), ""
    elif item.secret:
        found, want = "(secret)", "(secret)"
    else:
        found, want = format_value(item.actual), format_value(item.want)
    return name, mark, _cell(item.path), _cell(_short(found)), _cell(_short(want))


def _cell(text: str) -> str:
    """Return *text* as one line that is no markup: what a host shows forges no row."""
    return escape(one_line(text))


def _short(text: str) -> str:
    return text if len(text) <= _LONG else f"{text[:_LONG]}…"


def _remedies(report: Report) -> Iterator[str]:
    """Yield what to do, once however often it is needed."""
    for result in report.results:
        for item in result.differences:
            if item.remedy:
                yield one_line(f"{item.thing}: {item.remedy}")
        if result.not_reached:
            yield result.not_reached


def _sums(report: Report) -> str:
    results = report.results
    parts = [
        f"{len(results)} resources",
        f"{sum(result.holds for result in results)} properties hold",
        f"{sum(len(result.differs) for result in results)} differ",
        f"{sum(len(result.unknown) for result in results)} unknown",
    ]
    if away := sorted({result.name.split("/")[0] for result in results if result.not_reached}):
        parts.append(f"not reached: {', '.join(away)}")
    if hidden := sum(result.not_rehearsable for result in results):
        parts.append(f"{hidden} not rehearsable here")
    return f"{report.stack}: {', '.join(parts)}"
