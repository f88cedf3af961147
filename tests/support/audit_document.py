"""An audit document of the example rack, whose hosts report texts that attack each format."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from rackwright.audit.formats.document import AuditDocument
from rackwright.audit.formats.drawing import draw
from rackwright.audit.formats.finding import collect
from rackwright.audit.report import UndeclaredThing, compare
from rackwright.errors import Diagnostic, HostUnreachable
from rackwright.facts.facts import Facts
from rackwright.fleet.resource_place import ResourcePlaces
from tests.support.inventory import OTHERS, with_nothing_more
from tests.support.recorded_hosts import STACK, recorded

HOSTS = tuple(STACK.fleet.hosts)
ATTACK = (
    "=cmd|'/C calc'!A0 </script><script>alert(1)</script><img src=x onerror=alert(2)> ```` | [a](javascript:b) @all #1 "
    "]]> &amp; \x1b[2J\x00\x0b\ufffe\u202e\r# heading <!-- {{ 7 * 7 }} {0}"
)
"""A text with which a host attacks spreadsheets, browsers, Markdown, XML, templates, SARIF and terminals."""
UNREACHED = HostUnreachable(Diagnostic(HOSTS[1], "no answer", "it answers at its address", "Switch it on"))


UNDECLARED = (
    UndeclaredThing(HOSTS[0], "RW-101", f"file:/etc/cron.d/{ATTACK}", ATTACK, "warning", "remove it", None),
    UndeclaredThing(HOSTS[0], "RW-102", "user:guest", "uid 1001", "error", "remove it", "a guest until June"),
    UndeclaredThing(HOSTS[0], "RW-103", "sockets", "permission denied", "notice", "", None, is_unknown=True),
)


def attacked_facts() -> dict[str, Any]:
    """Return raw facts by host, with the attack as the bitmap of an array of the first host."""
    facts = {host: with_nothing_more(recorded(host), OTHERS) for host in HOSTS}
    facts[HOSTS[0]]["arrays"][0]["bitmap"] = ATTACK
    facts[HOSTS[0]]["arrays"][1]["bitmap"] = {"unknown": "permission denied"}
    return facts


def make_document(facts: Mapping[str, Any] | None = None, diff: str = "", reached: bool = False) -> AuditDocument:
    """Return the audit of *facts*, the attacked ones by default.

    Args:
        diff: Diff of a file for the first finding.
        reached: Whether the second host answers.
    """
    raw = attacked_facts() if facts is None else facts
    evidence = {host: Facts(each) for host, each in raw.items()}
    report = compare(STACK, evidence if reached else {**evidence, HOSTS[1]: UNREACHED})
    report = replace(report, undeclared=UNDECLARED)
    findings = collect(report, ResourcePlaces(STACK.fleet_file), "stacks/lab.yaml")
    if diff:
        findings = (replace(findings[0], diff=diff), *findings[1:])
    return AuditDocument(report, findings, draw(STACK.fleet.hosts, findings, STACK.not_rehearsable))
