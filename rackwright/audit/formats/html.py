"""The report as one HTML page that loads nothing from outside."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rackwright import html_page
from rackwright.audit.formats.document import AuditDocument, by_host
from rackwright.audit.formats.finding import SEVERITIES, STATES, Finding

FOLDER = Path(__file__).parent
LABELS: Mapping[str, str] = {
    "differs": "differs",
    "undeclared": "differs",
    "unknown": "unknown",
    "not reached": "not-reached",
}
"""Classes of the style sheet, by state."""
SIGNS: Mapping[str, str] = {"ok": "✓", "differs": "✗", "unknown": "?", "not-reached": "–", "not-compared": "·"}
"""A sign for each class: no state is shown by its colour alone."""
VERDICTS = {0: ("ok", "As declared"), 1: ("differs", "Not as declared"), 3: ("unknown", "Partly unknown")}
NOTHING_KNOWN = "Nothing is known"
"""The verdict if no property of any host is known."""


@dataclass(frozen=True)
class Cell:
    """One host and one kind."""

    label: str
    text: str
    count: int = 0
    """Number of findings."""


@dataclass(frozen=True)
class Matrix:
    """All hosts and kinds."""

    kinds: Sequence[str]
    rows: Sequence[tuple[str, Sequence[tuple[str, Cell]]]]


FILTERS: Mapping[str, Any] = {
    "label": lambda state: state.replace(" ", "-"),
    "diff_label": lambda line: {"+": "added", "-": "removed", "@": "hunk"}.get(line[:1], "same"),
}
"""Filters of `cards.html.j2`: the class of a state, and the class of a line of a unified diff."""


def read_style() -> str:
    """Return the style of `cards.html.j2`."""
    return (FOLDER / "cards.css").read_text()


def verdict(document: AuditDocument) -> tuple[str, str]:
    """Return the class and the words of the outcome of *document*."""
    label, text = VERDICTS[document.exit_status]
    return label, NOTHING_KNOWN if label == "unknown" and not document.matches else text


def render(document: AuditDocument) -> str:
    """Return *document* as a page. Its policy allows only its own style and script, whatever a host reports."""
    style, script = ((FOLDER / name).read_text() for name in ("report.css", "report.js"))
    label, text = verdict(document)
    of_hosts = by_host(document.findings)
    order = dict.fromkeys((*(result.name.partition("/")[0] for result in document.report.results), *of_hosts))
    ordered = {host: of_hosts[host] for host in order if host in of_hosts}
    names = {
        "document": document,
        "verdict": {"label": label, "text": text},
        "known": sum(finding.known for finding in document.findings),
        "labels": LABELS,
        "signs": SIGNS,
        "matrix": make_matrix(document),
        "hosts": list(ordered),
        "repairs": any(each.state == "differs" and not each.remedy for each in document.findings),
        "finding_kinds": list(dict.fromkeys(finding.kind for finding in document.findings)),
        "states": [state for state in STATES if any(finding.state == state for finding in document.findings)],
        "severities": SEVERITIES,
        "cards_by_host": {host: make_cards(findings) for host, findings in ordered.items()},
    }
    style = read_style() + style
    return html_page.render(FOLDER, "report.html.j2", names, style=style, script=script, filters=FILTERS)


@dataclass(frozen=True)
class Card:
    """One finding, or all resources of a host that were not reached for one reason."""

    finding: Finding
    resources: Sequence[str] = ()
    """The resources; empty for one finding."""
    kinds: str = ""
    """The kinds of the resources, each between vertical bars."""


def make_cards(findings: Sequence[Finding]) -> Sequence[Card]:
    """Return a card for each of *findings*, of one host; those that were not reached share one."""
    away: dict[tuple[str, str, bool, str], list[Finding]] = defaultdict(list)
    for each in findings:
        if each.state == "not reached":
            away[each.found, each.severity, each.known, each.allowed].append(each)
    cards = [
        Card(group[0], [each.resource for each in group] if len(group) > 1 else (), _kinds(group))
        for group in away.values()
    ]
    return [*cards, *(Card(each, (), _kinds([each])) for each in findings if each.state != "not reached")]


def _kinds(findings: Sequence[Finding]) -> str:
    return f"|{'|'.join(dict.fromkeys(each.kind for each in findings))}|"


def make_matrix(document: AuditDocument) -> Matrix:
    """Return the state of each kind on each host; a kind that a host does not have is empty."""
    findings: dict[tuple[str, str], list[Finding]] = defaultdict(list)
    for finding in document.findings:
        findings[finding.host, finding.kind].append(finding)
    holding: dict[tuple[str, str], int] = defaultdict(int)
    for result in document.report.results:
        holding[result.name.partition("/")[0], result.token.rpartition(":")[2].lower()] += result.matches
    hosts = list(dict.fromkeys(host for host, _ in (*holding, *findings)))
    kinds = list(dict.fromkeys(kind for _, kind in (*holding, *findings)))
    present: dict[tuple[str, str], Any] = {**holding, **findings}
    rows = [
        (host, [(kind, _cell(findings.get((host, kind), []), holding.get((host, kind)))) for kind in kinds])
        for host in hosts
        if any((host, kind) in present for kind in kinds)
    ]
    return Matrix(kinds, rows)


def _cell(findings: Sequence[Finding], holding: int | None) -> Cell:
    """Return the cell for *findings*, and for a number of properties that hold; None for a kind that is absent."""
    counts = {state: sum(finding.state == state and finding.is_new for finding in findings) for state in STATES}
    texts = [state if state == "not reached" else f"{count} {state}" for state, count in counts.items() if count]
    if texts:
        first = next(state for state in STATES if counts[state])
        return Cell(LABELS[first], ", ".join(texts).replace("differs", "differ"), len(findings))
    if holding is None:
        return Cell("not-compared", "")
    if findings:
        return Cell("not-compared", f"{len(findings)} known or allowed", len(findings))
    return Cell("ok", f"{holding} hold") if holding else Cell("not-compared", "not compared")
