"""The parts of a page in Markdown: cells, tables and the notice that a page is generated."""

from collections.abc import Iterable, Sequence

NOTICE = "<!-- Generated from {source}. `make reference` writes this page again. -->\n"


def page(title: str, source: str, *parts: str) -> str:
    """Return a page with its title, the notice that names its *source*, and its parts."""
    return "\n\n".join([f"# {title}", NOTICE.format(source=source).strip(), *filter(None, parts)]) + "\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; empty without rows."""
    lines = [_row(map(cell, row)) for row in rows]
    return "\n".join([_row(head), _row("---" for _ in head), *lines]) if lines else ""


def cell(text: str) -> str:
    """Return *text* as one line that ends no cell."""
    return " ".join(text.split()).replace("|", "\\|")


def code(text: object) -> str:
    """Return *text* as code; empty for an empty text."""
    return f"`{text}`" if str(text) else ""


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
