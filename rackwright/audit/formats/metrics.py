"""The report as metrics in Prometheus's text format: counts, and one series for each of the first findings."""

from collections.abc import Iterator

from rackwright.audit.formats.document import AuditDocument
from rackwright.audit.formats.finding import Finding
from rackwright.facts.metrics_text import LABEL_MAX, Sample, to_text

FINDINGS_MAX = 200
"""Findings with a series each: hosts choose some of their paths."""


def render(document: AuditDocument) -> str:
    """Return the metrics of *document*; a file of them replaces that of the audit before."""
    return to_text(_samples(document))


def _samples(document: AuditDocument) -> Iterator[Sample]:
    stack = {"stack": document.report.stack}
    if document.made_at is not None:
        yield "rackwright_audit_timestamp_seconds", stack, round(document.made_at.timestamp())
    yield "rackwright_audit_exit_status", stack, document.exit_status
    yield "rackwright_audit_claims_holding", stack, document.matches
    counting = [finding for finding in document.findings if finding.counts]
    for state in document.counts:
        found = sum(finding.state == state for finding in counting)
        yield "rackwright_audit_findings", {**stack, "state": state}, found
    # two series with equal labels would make the exporter refuse the whole file, and long labels are cut
    series = {tuple(_labels(finding).items()): None for finding in counting[:FINDINGS_MAX]}
    for labels in series:
        yield "rackwright_audit_finding", {**stack, **dict(labels)}, 1
    yield "rackwright_audit_findings_left_out", stack, max(0, len(counting) - FINDINGS_MAX)


def _labels(finding: Finding) -> dict[str, str]:
    """Return the labels of *finding*, without its values: they may be texts of the host."""
    return {
        "host": finding.host[:LABEL_MAX],
        "resource": finding.resource[:LABEL_MAX],
        "path": finding.path[:LABEL_MAX],
        "rule": finding.rule[:LABEL_MAX],
        "state": finding.state,
        "severity": finding.severity,
    }
