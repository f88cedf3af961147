"""An audit with everything that report formats print."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import groupby

from rackwright.audit.formats.drawing import HostDrawing
from rackwright.audit.formats.finding import SEVERITIES, STATES, Finding, exit_status
from rackwright.audit.report import AuditReport
from rackwright.errors import quantity


@dataclass(frozen=True)
class AuditDocument:
    """One audit, as all formats print it."""

    report: AuditReport
    findings: tuple[Finding, ...]
    """The selected findings, in the order of the resources."""
    drawing: tuple[HostDrawing, ...] = ()
    """The hosts with their drives and GPUs."""
    source: str = "the hosts"
    """The origin of the facts."""
    made_at: datetime | None = None
    """Time of the comparison; only formats for people print it."""
    strict: bool = False
    """Whether unknown properties count like differences."""

    @property
    def exit_status(self) -> int:
        """0 as declared, 1 something differs or is undeclared, 3 something is unknown."""
        return exit_status(self.findings, self.strict)

    @property
    def matches(self) -> int:
        """Number of properties with the declared value."""
        return sum(result.matches for result in self.report.results)

    @property
    def not_rehearsable(self) -> int:
        """Number of properties that the target of the stack cannot have."""
        return sum(result.not_rehearsable for result in self.report.results)

    @property
    def counts(self) -> Mapping[str, int]:
        """Number of findings that count, by state."""
        found = Counter(finding.state for finding in self.findings if finding.is_new)
        return {state: found[state] for state in STATES}

    @property
    def notices(self) -> Mapping[str, str]:
        """All notices, by resource or subject."""
        own = {result.name: result.notice for result in self.report.results if result.notice}
        return {**own, **self.report.notices}


def mark_known(findings: Iterable[Finding], fingerprints: frozenset[str]) -> tuple[Finding, ...]:
    """Return *findings*, those with one of *fingerprints* marked as known."""
    return tuple(
        replace(finding, known=True) if finding.fingerprint in fingerprints else finding for finding in findings
    )


def by_host(findings: Iterable[Finding]) -> dict[str, tuple[Finding, ...]]:
    """Return the findings of each host, the heaviest first and otherwise in their order."""
    ordered = sorted(findings, key=lambda finding: finding.host)
    return {
        host: tuple(sorted(group, key=lambda each: (SEVERITIES.index(each.severity), STATES.index(each.state))))
        for host, group in groupby(ordered, key=lambda finding: finding.host)
    }


def row_of(finding: Finding) -> tuple[str, ...]:
    """Return the key of the row in which a report shows *finding*: all properties of a missing thing have one row."""
    if finding.found == "absent":
        return (finding.host, finding.resource, finding.thing)
    return (finding.host, finding.resource, finding.path, finding.rule)


def _count_rows(document: AuditDocument) -> int:
    """Return the number of rows of a report for the properties that count as different."""
    return len({row_of(each) for each in document.findings if each.is_new and each.state == "differs"})


def format_counts(document: AuditDocument) -> str:
    """Return the totals of *document* as one line."""
    parts = [quantity(len(document.report.results), "resource"), f"{document.matches} properties hold"]
    counts = document.counts
    rows, properties = _count_rows(document), counts["differs"]
    differing = f"{rows} differ" if rows == properties else f"{rows} differ in {properties} properties"
    parts += [differing, f"{counts['unknown']} unknown"]
    if counts["undeclared"]:
        parts.append(f"{counts['undeclared']} undeclared")
    for text, number in (
        ("known from the baseline", sum(finding.known for finding in document.findings)),
        ("allowed", sum(bool(finding.allowed) for finding in document.findings)),
        ("not rehearsable here", document.not_rehearsable),
    ):
        if number:
            parts.append(f"{number} {text}")
    if unreachable := sorted({each.host for each in document.findings if each.state == "not reached"}):
        parts.append(f"not reached: {', '.join(unreachable)}")
    return f"{document.report.stack}: {', '.join(parts)}"
