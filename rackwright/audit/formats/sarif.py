"""The report as SARIF 2.1.0, so that a code host shows each finding at the line that declares the thing.

Source: OASIS, Static Analysis Results Interchange Format (SARIF) Version 2.1.0.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

from rackwright import __version__
from rackwright.audit.formats.document import AuditDocument
from rackwright.audit.formats.finding import Finding
from rackwright.errors import one_line

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
LEVELS: Mapping[str, str] = {"error": "error", "warning": "warning", "notice": "note"}
ROOT = "PROJECT"
"""Base of all paths: the directory of the project."""


def render(document: AuditDocument) -> str:
    """Return *document* as a SARIF log with one run."""
    rules = list(dict.fromkeys(finding.rule for finding in document.findings))
    first = {finding.rule: finding for finding in reversed(document.findings)}
    run: dict[str, Any] = {
        "tool": {
            "driver": {"name": "rackwright", "version": __version__, "rules": [_rule(first[rule]) for rule in rules]}
        },
        "automationDetails": {"id": f"rackwright/{document.report.stack}/"},
        "invocations": [_invocation(document)],
        "originalUriBaseIds": {ROOT: {"description": {"text": "The directory of the project"}}},
        "columnKind": "unicodeCodePoints",
        "results": [_result(finding, rules.index(finding.rule)) for finding in document.findings],
        "properties": {"stack": document.report.stack, "propertiesThatHold": document.matches},
    }
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2) + "\n"


def _rule(finding: Finding) -> dict[str, Any]:
    """Return the rule of *finding*; its text must not depend on the host."""
    subject = finding.rule.partition("/")[2]
    texts = {
        "not reached": f"A {finding.kind} on a host that does not answer",
        "undeclared": f"A thing that nothing declares, by rule {finding.rule}",
    }
    text = texts.get(finding.state, f"{subject} of a {finding.kind} as declared")
    return {
        "id": finding.rule,
        "name": "".join(part.capitalize() for part in finding.rule.replace("_", "-").replace("/", "-").split("-")),
        "shortDescription": {"text": one_line(text)},
        "defaultConfiguration": {"level": LEVELS[finding.severity]},
    }


def _result(finding: Finding, index: int) -> dict[str, Any]:
    """Return the result of *finding*.

    A finding about an unknown value is of kind `fail` too: code hosts hide the kind `open`.
    """
    result: dict[str, Any] = {
        "ruleId": finding.rule,
        "ruleIndex": index,
        "kind": "fail",
        "level": "warning" if finding.state == "unknown" else LEVELS[finding.severity],
        "message": {"text": _message(finding)},
        "locations": [_location(finding)],
        "partialFingerprints": {"resourcePath/v1": _stable_digest(finding)},
        "baselineState": "unchanged" if finding.known else "new",
        "properties": {"host": finding.host, "state": finding.state, "severity": finding.severity},
    }
    if finding.allowed:
        result["suppressions"] = [{"kind": "external", "justification": one_line(finding.allowed)}]
    return result


def _message(finding: Finding) -> str:
    """Return one or two sentences, without the characters that SARIF reads as links and placeholders."""
    if finding.state == "not reached":
        text = f"{finding.resource}: {finding.found}"
    elif finding.state == "undeclared":
        text = f"{finding.host}: {finding.path} is not declared: {finding.found}"
    else:
        wanted = f", wanted {finding.wanted}" if finding.wanted else ""
        text = f"{finding.resource}: {finding.path} is {finding.found}{wanted}"
    text = f"{text}. {finding.remedy}" if finding.remedy else text
    return _plain(one_line(text))


def _plain(text: str) -> str:
    """Return *text* with backslashes before brackets and doubled braces: sections 3.11.5 and 3.11.6."""
    escaped = "".join(f"\\{character}" if character in "\\[]" else character for character in text)
    return escaped.replace("{", "{{").replace("}", "}}")


def _location(finding: Finding) -> dict[str, Any]:
    location: dict[str, Any] = {
        "logicalLocations": [{"fullyQualifiedName": one_line(f"{finding.resource}/{finding.path}"), "kind": "resource"}]
    }
    if finding.file:
        place: dict[str, Any] = {"artifactLocation": {"uri": quote(finding.file), "uriBaseId": ROOT}}
        # without a line a code host drops the finding, so a fleet in Python has its findings at the top
        location["physicalLocation"] = {**place, "region": {"startLine": finding.line or 1}}
    return location


def _stable_digest(finding: Finding) -> str:
    """Return a digest by which a code host recognises the finding although its value or its line has changed."""
    text = "\0".join((finding.resource, finding.rule, finding.path))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _invocation(document: AuditDocument) -> dict[str, Any]:
    unread = [finding for finding in document.findings if finding.state == "not reached"]
    return {
        "executionSuccessful": not unread,
        "exitCode": document.exit_status,
        "toolExecutionNotifications": [_notification(finding) for finding in _once_per_host(unread)],
    }


def _once_per_host(findings: Iterable[Finding]) -> Iterable[Finding]:
    return {finding.host: finding for finding in findings}.values()


def _notification(finding: Finding) -> dict[str, Any]:
    return {"level": "error", "message": {"text": _plain(one_line(finding.found))}}
