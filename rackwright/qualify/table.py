"""The table of a qualification report for the terminal."""

from collections.abc import Iterator

from rich.markup import escape
from rich.table import Table

from rackwright.qualify.item import Figure, Item, QualificationReport, State

COLOURS: dict[State, str] = {"ok": "green", "short": "red", "failed": "red", "not possible": "yellow"}


def table(report: QualificationReport) -> Table:
    """Return a table with a row for each item."""
    rows = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("item", "", "measured", "at least", ""):
        rows.add_column(title, overflow="fold")
    for item in report.items:
        rows.add_row(item.name, _state(item), "\n".join(map(_value, item.figures)), _floors(item), escape(item.details))
    return rows


def sources(report: QualificationReport) -> Iterator[str]:
    """Yield the source of each floor, once."""
    texts = [each.source for item in report.items for each in item.figures if each.floor is not None and each.source]
    yield from (f"[{source}]" for source in dict.fromkeys(texts))


def summary(report: QualificationReport) -> str:
    """Return a line with the number of items in each state."""
    counts = ", ".join(f"{count} {state}" for state, count in report.counts.items())
    return f"{report.stack}/{report.host}: {counts}"


def _state(item: Item) -> str:
    colour = COLOURS.get(item.state)
    return f"[{colour}]{item.state}[/]" if colour else item.state


def _value(figure: Figure) -> str:
    digits = 1 if figure.value >= 10 else 2
    return escape(f"{figure.name} {figure.value:.{digits}f} {figure.unit}")


def _floors(item: Item) -> str:
    if all(figure.floor is None for figure in item.figures):
        return ""
    return "\n".join(_floor(figure) for figure in item.figures)


def _floor(figure: Figure) -> str:
    if figure.floor is None:
        return "-"
    return f"{figure.floor:g}{'' if figure.source else ' (unverified)'}"
