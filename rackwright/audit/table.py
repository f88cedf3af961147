"""The audit as a table for people."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rackwright.audit.report import Report, Result
from rackwright.kinds.contract import Difference
from rackwright.kinds.wording import words

_LONG = 60


def show(report: Report, console: Console) -> None:
    """Print what differs and what is unknown, line by line, then the sums."""
    rows = [row for result in report.results for row in _rows(result)]
    if rows:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for title in ("resource", "", "claim", "wanted", "found", "what to do"):
            table.add_column(title, overflow="fold")
        for row in rows:
            table.add_row(*row)
        console.print(table)
    console.print(_sums(report))


def _rows(result: Result) -> list[tuple[str, ...]]:
    rows = [_row(result.name, item) for item in result.differences]
    if result.not_reached:
        rows.append((result.name, "[yellow]unknown[/]", "everything", "", escape(result.not_reached), ""))
    if result.notice:
        rows.append((result.name, "[cyan]notice[/]", escape(result.notice), "", "", "take it out once it is done with"))
    return rows


def _row(name: str, item: Difference) -> tuple[str, ...]:
    mark = "[yellow]unknown[/]" if item.unknown else "[red]differs[/]"
    if item.secret:
        return name, mark, escape(item.path), "(secret)", "(secret)", escape(item.remedy)
    want, found = _told(words(item.want)), _told(words(item.found))
    return name, mark, escape(item.path), escape(want), escape(found), escape(item.remedy or "run `rackwright up`")


def _told(text: str) -> str:
    """Return *text* in a cell: of a long or many-lined one only how long it is."""
    if "\n" in text:
        return f"a text of {len(text.splitlines())} lines"
    return text if len(text) <= _LONG else f"{text[:_LONG]}…"


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
