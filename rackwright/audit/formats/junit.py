"""The report as JUnit XML: a suite for each host, and a test case for each resource.

Source: the schema of the Jenkins plugin xUnit, junit-10.xsd.
"""

import re
from collections.abc import Sequence
from xml.etree import ElementTree

from rackwright.audit.formats.document import AuditDocument
from rackwright.audit.formats.finding import UNDECLARED, Finding
from rackwright.audit.report import AuditResult
from rackwright.errors import visible

_FORBIDDEN = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 does not allow even as references. Source: section 2.2, Char."""


def render(document: AuditDocument) -> str:
    """Return *document* as JUnit XML. A resource fails if a property differs, and has an error if one is unknown."""
    by_resource: dict[str, list[Finding]] = {}
    for finding in document.findings:
        if finding.type != UNDECLARED:
            by_resource.setdefault(finding.resource, []).append(finding)
    suites: dict[str, ElementTree.Element] = {}
    for result in document.report.results:
        host = result.name.partition("/")[0]
        suite = suites.setdefault(host, ElementTree.Element("testsuite", name=clean(host), hostname=clean(host)))
        _add_case(suite, result.name, result.token, by_resource.get(result.name, ()), result)
    for finding in document.findings:
        if finding.type == UNDECLARED:
            suite = suites.setdefault(finding.host, ElementTree.Element("testsuite", name=clean(finding.host)))
            _add_case(suite, f"{finding.host}: {finding.rule} {finding.path}", UNDECLARED, [finding])
    root = ElementTree.Element("testsuites", name=clean(f"rackwright audit {document.report.stack}"))
    for suite in suites.values():
        _set_totals(suite, list(suite))
        root.append(suite)
    _set_totals(root, [case for suite in suites.values() for case in suite])
    root.attrib.pop("skipped")  # only a suite has this attribute
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n'


def clean(text: str) -> str:
    """Return *text* without characters that XML forbids or that a terminal obeys; they become visible."""
    return _FORBIDDEN.sub(lambda match: ascii(match[0])[1:-1], visible(text))


def _add_case(
    suite: ElementTree.Element, name: str, type: str, findings: Sequence[Finding], result: AuditResult | None = None
) -> None:
    case = ElementTree.SubElement(suite, "testcase", name=clean(name), classname=clean(type))
    counting = [finding for finding in findings if finding.counts]
    failed = [finding for finding in counting if finding.state in ("differs", "undeclared")]
    if counting:
        first = (failed or counting)[0]
        outcome = ElementTree.SubElement(case, "failure" if failed else "error")
        outcome.set("type", clean(first.rule))
        outcome.set("message", clean(_message(counting, failed)))
        outcome.text = clean("\n\n".join(map(_describe, counting)))
    elif result is not None and not result.matches and not findings and result.notice:
        ElementTree.SubElement(case, "skipped", message=clean(result.notice))
    output = [f"does not count: {_describe(finding)}" for finding in findings if not finding.counts]
    output += [f"notice: {result.notice}"] if result is not None and result.notice else []
    if output:
        ElementTree.SubElement(case, "system-out").text = clean("\n\n".join(output))


def _message(counting: Sequence[Finding], failed: Sequence[Finding]) -> str:
    unknown = len(counting) - len(failed)
    parts = [f"{len(failed)} differ" if failed else "", f"{unknown} unknown" if unknown else ""]
    return f"{', '.join(filter(None, parts))}: {', '.join(finding.path for finding in counting)}"


def _describe(finding: Finding) -> str:
    lines = [f"{finding.path}: {finding.state}", f"  found:  {finding.found}"]
    lines += [f"  wanted: {finding.wanted}"] if finding.wanted else []
    lines += [f"  remedy: {finding.remedy}"] if finding.remedy else []
    lines += [f"  at:     {finding.place}"] if finding.file else []
    return "\n".join([*lines, *([finding.diff] if finding.diff else [])])


def _set_totals(element: ElementTree.Element, cases: Sequence[ElementTree.Element]) -> None:
    element.set("tests", str(len(cases)))
    for attribute, outcome in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        element.set(attribute, str(sum(case.find(outcome) is not None for case in cases)))
