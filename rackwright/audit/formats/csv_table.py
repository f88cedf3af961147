"""The report as a table of comma-separated values, one finding in each line, for spreadsheets."""

import csv
import io

from rackwright.audit.formats.document import AuditDocument
from rackwright.errors import one_line

COLUMNS = (
    *("host", "resource", "type", "path", "rule", "state", "severity", "found", "wanted"),
    *("remedy", "file", "line", "known", "allowed"),
)
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""First characters with which a spreadsheet takes a cell for a formula. Source: OWASP, CSV Injection."""


def render(document: AuditDocument) -> str:
    """Return the findings of *document* in lines, after a line with the names of the columns."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")  # RFC 4180, section 2
    writer.writerow(COLUMNS)
    for finding in document.findings:
        writer.writerow([cell(getattr(finding, column)) for column in COLUMNS])
    return text.getvalue()


def cell(value: str | int | bool | None) -> str:
    """Return *value* as a cell that no spreadsheet computes: a formula of a host's file stays text."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case int():
            return str(value)
    text = one_line(value)
    return f"'{text}" if text.lstrip(" ").startswith(FORMULA) else text
