"""The report for a terminal of 80 columns: findings by host and severity, and each remedy once."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

from rich.console import Console
from rich.markup import escape

from rackwright.audit.formats.document import AuditDocument, by_host, format_counts
from rackwright.audit.formats.finding import UNDECLARED, Finding
from rackwright.core.contract import Severity
from rackwright.errors import one_line, visible

VALUE_MAX = 300
"""Characters of a value that are shown at most."""
STYLES: Mapping[str, str] = {"differs": "red", "undeclared": "red", "unknown": "yellow", "not reached": "yellow"}
HEADINGS: Mapping[Severity, str] = {"error": "errors", "warning": "warnings", "notice": "notices"}


def show(document: AuditDocument, console: Console, diff: bool = False) -> None:
    """Print the new findings of *document*, then the remedies, what is allowed, the notices and the totals.

    Args:
        diff: Whether to print the diffs of files.
    """
    counting = [finding for finding in document.findings if finding.is_new]
    remedies = _number_remedies(counting)
    for host, findings in by_host(counting).items():
        console.print(f"[bold]{_text(host)}[/]", soft_wrap=True)
        for severity, group in groupby(findings, key=lambda finding: finding.severity):
            console.print(f"  {HEADINGS[severity]}", soft_wrap=True)
            for line in _group(list(group), remedies, console.width, diff):
                console.print(line, soft_wrap=True)
    if remedies:
        console.print("[bold]help[/]", soft_wrap=True)
    for remedy, number in remedies.items():
        for line in _wrap(f"{f'[{number}]':<5}", remedy, console.width):
            console.print(escape(line), soft_wrap=True)
    for finding in document.findings:
        if finding.allowed:
            subject = f"{finding.host}: {finding.rule} {finding.path}: {finding.allowed}"
            for line in _wrap("allowed: ", subject, console.width):
                console.print(f"[green]{escape(line)}[/]", soft_wrap=True)
    for subject, text in document.notices.items():
        for line in _wrap("notice: ", f"{subject}: {text}", console.width):
            console.print(f"[cyan]{escape(line)}[/]", soft_wrap=True)
    counts = format_counts(document)
    for line in _wrap("", counts, console.width) if console.is_terminal else [counts]:  # whole for programs
        console.print(escape(line), soft_wrap=True)


def _number_remedies(findings: Sequence[Finding]) -> dict[str, int]:
    """Return a number for each remedy, in the order of the printed findings."""
    ordered = [finding for group in by_host(findings).values() for finding in group]
    remedies = dict.fromkeys(finding.remedy for finding in ordered if finding.remedy)
    return {remedy: number for number, remedy in enumerate(remedies, start=1)}


def _group(findings: Sequence[Finding], remedies: Mapping[str, int], width: int, diff: bool) -> Iterator[str]:
    away = [finding for finding in findings if finding.state == "not reached"]
    if away:
        names = ", ".join(finding.resource for finding in away)
        first, *further = map(escape, _wrap("    not reached ", names, width))
        yield first.replace("not reached", f"[{STYLES['not reached']}]not reached[/]", 1)
        yield from further
        yield from map(escape, _wrap("      ", _shorten(away[0].found), width))
    rest = [finding for finding in findings if finding.state != "not reached"]
    for _, group in groupby(rest, key=lambda each: (each.resource, each.thing, each.found == "absent")):
        items = list(group)
        if len(items) > 1 and items[0].found == "absent":
            # the properties of a missing thing add nothing
            yield from _lines(items[0], items[0].thing, "", remedies, width)
        else:
            for finding in items:
                yield from _lines(finding, finding.path, finding.wanted, remedies, width)
                yield from (f"      {escape(line)}" for line in visible(finding.diff).splitlines() if diff)


def _lines(finding: Finding, path: str, wanted: str, remedies: Mapping[str, int], width: int) -> Iterator[str]:
    number = f" [{remedies[finding.remedy]}]" if finding.remedy else ""
    subject = f"{finding.rule} {path}" if finding.type == UNDECLARED else path
    first, *further = map(escape, _wrap(f"    {finding.state} ", f"{subject}{number}", width))
    yield first.replace(finding.state, f"[{STYLES[finding.state]}]{finding.state}[/]", 1)
    yield from further
    place = f"{finding.resource}, {finding.place}" if finding.file else finding.resource
    yield from (f"[dim]{escape(line)}[/]" for line in _wrap("      ", place, width))
    for label, value in (("found   ", finding.found), ("wanted  ", wanted)):
        if value:
            yield from map(escape, _wrap(f"      {label}", _shorten(value), width))


def _wrap(label: str, text: str, width: int) -> list[str]:
    """Return *text* after *label* in lines of at most *width* columns, the further ones indented."""
    return textwrap.wrap(
        one_line(text), max(width, 40), initial_indent=label, subsequent_indent=" " * len(label), break_on_hyphens=False
    ) or [label]


def _shorten(text: str) -> str:
    return text if len(text) <= VALUE_MAX else f"{text[:VALUE_MAX]}…"


def _text(text: str) -> str:
    """Return *text* as one line without markup, so that the text of a host cannot forge a row."""
    return escape(one_line(text))
