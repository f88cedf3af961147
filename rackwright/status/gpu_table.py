"""The table of GPUs that `rackwright gpu top` prints."""

from collections.abc import Iterator

from rich.markup import escape
from rich.table import Table

from rackwright.status.gpus import GpuReport, GpuRow, mebibytes

FIGURES = ("host", "GPU", "name", "used", "MiB", "°C", "W")
TEXTS = ("assigned to", "processes", "")
"""Titles of columns that are left out if no row has a text for them."""
RIGHT = ("GPU", "used", "°C", "W")
TEXT_WIDTH = 16
"""Least width of a column of text, in characters: a narrower one would be one word a line."""


def table(report: GpuReport) -> Table:
    """Return a table with a row for each GPU, and a row for each host whose GPUs are unknown."""
    rows = [(row.host, *_cells(row), "\n".join(_marks(row))) for row in report.rows]
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for title in FIGURES:
        shown.add_column(title, overflow="fold", justify="right" if title in RIGHT else "left")
    used = [n for n in range(len(FIGURES), len(FIGURES) + len(TEXTS)) if any(row[n] for row in rows)]
    for n in used:
        shown.add_column(TEXTS[n - len(FIGURES)], overflow="fold", min_width=TEXT_WIDTH)
    for row in rows:
        shown.add_row(*row[: len(FIGURES)], *(row[n] for n in used))
    return shown


def summary(report: GpuReport) -> str:
    """Return one line: the number of GPUs, of alerts and of unknown states, and the hosts that were not reached."""
    gpus = [row for row in report.rows if row.index is not None]
    parts = [f"{len(gpus)} GPUs", f"{sum(bool(row.alerts) for row in report.rows)} with alerts"]
    if unknown := sum(bool(row.unknown) for row in report.rows):
        parts.append(f"{unknown} partly unknown")
    if away := [row.host for row in report.rows if row.not_reached]:
        parts.append(f"not reached: {', '.join(away)}")
    return f"{report.stack}: {', '.join(parts)}"


def _cells(row: GpuRow) -> Iterator[str]:
    if row.index is None:
        yield from [""] * (len(FIGURES) + len(TEXTS) - 2)
        return

    def cell(name: str, unit: str = "") -> str:
        if name not in row.figures:
            return "?"
        value = row.figures[name]
        return "-" if value is None else escape(f"{value:.0f}{unit}" if isinstance(value, int | float) else value)

    yield str(row.index)
    yield cell("name")
    yield cell("utilisation_percent", " %")
    memory = [row.figures.get(name) for name in ("memory_used_bytes", "memory_bytes")]
    yield " of ".join("?" if value is None else str(mebibytes(value)) for value in memory)
    yield cell("temperature_celsius")
    yield f"{cell('power_watts')}/{cell('power_limit_watts')}"
    yield escape(", ".join(row.assigned_to))
    yield escape(", ".join(f"{pid} {name or '?'}" for pid, name in row.processes))


def _marks(row: GpuRow) -> Iterator[str]:
    yield from (f"[red]{escape(alert)}[/]" for alert in row.alerts)
    yield from (f"[yellow]unknown: {escape(reason)}[/]" for reason in row.unknown)
    if row.not_reached:
        yield f"[yellow]not reached: {escape(row.not_reached.diagnostic.problem)}[/]"
