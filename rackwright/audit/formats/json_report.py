"""The report as a JSON document, which a later audit can take as its baseline."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict  # pydantic reads no other one on Python 3.11

from rackwright.audit.formats.document import AuditDocument
from rackwright.audit.formats.finding import Finding, State
from rackwright.audit.report import ResourceData, UndeclaredData, as_json
from rackwright.core.contract import Severity
from rackwright.errors import DeclarationError, Diagnostic
from rackwright.foreign import parse_json, read_file

REPORT_BYTES, REPORT_VALUES = 256 << 20, 5_000_000
"""Maximum size and number of values of an earlier report: one of 1,000 hosts has 10 MiB."""


class FindingData(TypedDict):
    """One property that differs or is unknown, one undeclared thing, or one resource that was not reached."""

    host: str
    """Name of the host."""
    resource: str
    """Name of the resource, such as `HOST/TIER` for a tier."""
    type: str
    """Type of the resource for pulumi, such as `rackwright:storage:Tier`."""
    path: str
    """Thing and property, such as `md:hot.bitmap`; `everything` for a resource that was not reached."""
    rule: str
    """Id of the rule: kind, sort of thing and property."""
    state: State
    """State of the property."""
    severity: Severity
    """Weight of the finding."""
    found: str
    """Text of the actual value; `(secret)` for secrets."""
    wanted: str
    """Text of the declared value; `(secret)` for secrets."""
    remedy: str
    """Advice for the operator; empty if there is none."""
    file: str
    """The fleet's file, relative to the project; empty if the stack has none."""
    line: int | None
    """Line that declares the thing; null if the file is no YAML."""
    diff: str
    """Unified diff of a file's text; empty for other values and for secrets."""
    fingerprint: str
    """Digest that is equal in two audits for the same finding."""
    known: bool
    """Whether the baseline has the finding."""
    allowed: str
    """Reason why the declaration allows it; empty if it does not."""


class AuditDocumentData(TypedDict):
    """The comparison of the declared state with the hosts."""

    stack: str
    """Name of the stack."""
    exit_status: int
    """Exit status of the command: 0 as declared, 1 a property differs or a thing is undeclared, 3 only unknowns."""
    notices: Mapping[str, str]
    """Notices that do not concern a property of a host, by subject."""
    resources: Sequence[ResourceData]
    """The comparison of each declared resource."""
    undeclared: Sequence[UndeclaredData]
    """Things on the hosts that nothing declares, those that the fleet allows included."""
    findings: Sequence[FindingData]
    """All findings as a flat list, in the order of the resources."""


def as_data(document: AuditDocument) -> AuditDocumentData:
    """Return *document* as JSON data."""
    whole = as_json(document.report)
    return {**whole, "exit_status": document.exit_status, "findings": [_finding(each) for each in document.findings]}


def _finding(finding: Finding) -> FindingData:
    return {
        "host": finding.host,
        "resource": finding.resource,
        "type": finding.type,
        "path": finding.path,
        "rule": finding.rule,
        "state": finding.state,
        "severity": finding.severity,
        "found": finding.found,
        "wanted": finding.wanted,
        "remedy": finding.remedy,
        "file": finding.file,
        "line": finding.line,
        "diff": finding.diff,
        "fingerprint": finding.fingerprint,
        "known": finding.known,
        "allowed": finding.allowed,
    }


def read_baseline(path: Path, stack: str) -> frozenset[str]:
    """Return the fingerprints in *path*, an earlier JSON report of *stack*.

    Raises:
        DeclarationError: the file cannot be read, is no such report, or is about another stack.
    """
    expected, help = "the output of `rackwright audit --format json`", "Name a report of an earlier audit"
    try:
        data: Any = parse_json(read_file(path, REPORT_BYTES), REPORT_BYTES, max_items=REPORT_VALUES)
        origin, fingerprints = data["stack"], frozenset(str(each["fingerprint"]) for each in data["findings"])
    except OSError as error:
        problem = f"the file cannot be read: {error.strerror}"
        raise DeclarationError(Diagnostic(str(path), problem, help="Correct the path")) from None
    except (ValueError, KeyError, TypeError):
        raise DeclarationError(Diagnostic(str(path), "the file has no findings", expected, help)) from None
    if origin != stack:
        raise DeclarationError(Diagnostic(str(path), f"the report is about stack {origin}", f"stack {stack}", help))
    return fingerprints
