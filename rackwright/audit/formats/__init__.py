"""The formats of audit reports: one module for each, and findings as their only input."""

import json
from importlib import import_module

from rackwright.audit.formats.document import AuditDocument, format_counts
from rackwright.terminal import JSON_VERSION, console

__all__ = ["format_counts", "render"]
MODULES = {
    "junit": "junit",
    "sarif": "sarif",
    "markdown": "markdown",
    "html": "html",
    "csv": "csv_table",
    "prometheus": "metrics",
}
"""Modules of the formats; only the chosen one is imported."""


def render(format: str, document: AuditDocument, diff: bool = False) -> str:
    """Return the text of *document* in *format*, as a file has it.

    Args:
        diff: Whether the format `terminal` has the diffs of files; the others have them always.
    """
    if format == "terminal":
        return _render_terminal(document, diff)
    if format == "json":
        from rackwright.audit.formats.json_report import as_data

        return json.dumps({"schema_version": JSON_VERSION, **as_data(document)}, indent=2) + "\n"
    text: str = import_module(f"{__name__}.{MODULES[format]}").render(document)
    return text


def _render_terminal(document: AuditDocument, diff: bool) -> str:
    import io

    from rackwright.audit.formats.terminal_report import show

    text = io.StringIO()
    show(document, console(file=text, width=80), diff)
    return text.getvalue()
