"""Compare each declared resource with the facts, and report matches, differences and unknown properties."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, NotRequired

from typing_extensions import TypedDict  # pydantic reads no other one on Python 3.11

from rackwright.audit.digests import SecretDigests, insert_digests
from rackwright.audit.undeclared.allow import admitted_by, allow_notices
from rackwright.audit.undeclared.remedies import remedy_of
from rackwright.audit.undeclared.rule import Finding, Rule
from rackwright.audit.undeclared.search import is_searched, search_host
from rackwright.audit.undeclared.table import RULES
from rackwright.core import contract
from rackwright.core import diff as comparison
from rackwright.core.contract import Difference, Severity, UnknownValue
from rackwright.core.scope import rehearsable_claims
from rackwright.core.wire import JSON, encode
from rackwright.errors import UserError
from rackwright.facts.facts import Facts
from rackwright.facts.log_chain import SeenHead
from rackwright.kinds.shared.unit_overrides import with_overrides
from rackwright.stack import DeclaredResource, Stack, declare

Evidence = Mapping[str, Facts | UserError]
"""Facts by host, or by endpoint as in ``s3:archive``, or the error of a source without facts."""


@dataclass(frozen=True)
class AuditResult:
    """Result of the comparison of one resource."""

    name: str
    token: str
    matches: int
    """Number of properties with the declared value."""
    differences: tuple[Difference, ...] = ()
    not_reached: str | None = None
    """Reason why nothing is known about the resource."""
    not_rehearsable: int = 0
    """Number of properties that the target of the stack cannot have."""
    notice: str | None = None
    """Consent that should be removed from the declaration soon, maintenance, and work in progress."""

    @property
    def known_differences(self) -> tuple[Difference, ...]:
        """Properties with another value than the declared one."""
        return tuple(item for item in self.differences if not item.is_unknown)

    @property
    def unknown_differences(self) -> tuple[Difference, ...]:
        """Properties that could not be compared."""
        return tuple(item for item in self.differences if item.is_unknown)


@dataclass(frozen=True)
class UndeclaredThing:
    """A thing on a host that nothing declares, found by a rule."""

    host: str
    rule: str
    """Id of the rule, such as ``RW-014``."""
    thing: str
    """Name of the thing in the form of a claim, such as ``file:/etc/cron.d/x``."""
    found: str
    """Description of the thing; for an unknown one, the reason why the rule could not be applied."""
    severity: Severity
    remedy: str
    allowed: str | None
    """Reason of the line under ``allow:`` that admits the thing; None for a thing that no line admits."""
    is_unknown: bool = False
    """Whether the host's facts do not answer the rule, so that there may be undeclared things."""

    @property
    def counts(self) -> bool:
        """Whether the thing is a deviation: it was found, no line admits it, and it is more than a notice."""
        return self.allowed is None and not self.is_unknown and self.severity != "notice"


@dataclass(frozen=True)
class AuditReport:
    """Results of the comparison of all resources of a stack."""

    stack: str
    results: tuple[AuditResult, ...]
    notices: Mapping[str, str] = field(default_factory=dict)
    """Notices that do not concern a property of a host, by subject."""
    undeclared: tuple[UndeclaredThing, ...] = ()
    """Things that nothing declares, those that the fleet allows included."""

    @property
    def exit_status(self) -> int:
        """0 if all is as declared, 1 if a property differs or a thing is undeclared, 3 if only some are unknown."""
        if any(result.known_differences for result in self.results) or any(item.counts for item in self.undeclared):
            return 1
        is_unknown = any(result.unknown_differences or result.not_reached for result in self.results)
        return 3 if is_unknown or any(item.is_unknown and item.allowed is None for item in self.undeclared) else 0


def compare(
    stack: Stack,
    evidence: Evidence,
    digests: SecretDigests | None = None,
    notices: Mapping[str, str] | None = None,
    now: datetime | None = None,
) -> AuditReport:
    """Return the comparison of each resource of *stack* with *evidence*, and what nothing declares.

    Args:
        digests: Wanted values that depend on secrets, if the secrets are not available.
        notices: Further notices for the report, by subject.
        now: Time at which a line under `allow:` must not have expired; None for the present.
    """
    return compare_each(stack, declare(stack), evidence.items(), digests, notices, now=now)


def compare_each(
    stack: Stack,
    resources: Sequence[DeclaredResource],
    evidence: Iterable[tuple[str, Facts | UserError]],
    digests: SecretDigests | None = None,
    notices: Mapping[str, str] | None = None,
    hosts: Sequence[str] = (),
    now: datetime | None = None,
    seen_heads: Mapping[str, tuple[SeenHead, ...]] | None = MappingProxyType({}),
) -> AuditReport:
    """Return the comparison of *resources*, with the facts of one host in memory at a time.

    Args:
        evidence: Each host with its facts, in any order; a host in maintenance needs none.
        hosts: Hosts whose resources are compared; empty for all.
        seen_heads: Heads of the chains of the audit logs that earlier audits saw, by host, the oldest first; None if
            they are unknown.
    """
    now = now or datetime.now(UTC)
    compared = [item for item in resources if not hosts or item.source in hosts]
    by_host: dict[str, list[int]] = {}
    for number, item in enumerate(compared):
        by_host.setdefault(item.source, []).append(number)
    results: dict[int, AuditResult] = {}
    undeclared: dict[str, tuple[UndeclaredThing, ...]] = {}
    for host, facts in evidence:
        numbers = by_host.pop(host, [])
        for number in numbers:
            results[number] = _compare(stack, compared[number], facts, digests or {})
        if is_searched(stack, host) and isinstance(facts, Facts):
            heads = None if seen_heads is None else seen_heads.get(host, ())
            found = search_host(stack, host, [compared[number] for number in numbers], facts, heads)
            undeclared[host] = tuple(_undeclared_thing(stack, host, *each, now) for each in found)
    for numbers in by_host.values():
        for number in numbers:
            results[number] = _compare(stack, compared[number], None, digests or {})
    in_order = tuple(item for host in stack.fleet.hosts for item in undeclared.get(host, ()))
    more = allow_notices(stack.fleet.allow, RULES, now)
    ordered = tuple(results[number] for number in range(len(compared)))
    return AuditReport(stack.name, ordered, {**(notices or {}), **more}, in_order)


def _undeclared_thing(
    stack: Stack, host: str, rule: Rule, finding: Finding, is_unknown: bool, now: datetime
) -> UndeclaredThing:
    allowed = admitted_by(stack.fleet.allow, host, rule.id, finding.thing, now)
    remedy = remedy_of(rule, finding, is_unknown)
    return UndeclaredThing(host, rule.id, finding.thing, finding.found, rule.severity, remedy, allowed, is_unknown)


def _compare(
    stack: Stack, declared: DeclaredResource, facts: Facts | UserError | None, digests: SecretDigests
) -> AuditResult:
    kind, spec, name, token = declared.kind, declared.spec, declared.name, declared.token
    all_claims = insert_digests(with_overrides(contract.claims(kind, spec, stack.repository)), digests.get(name, {}))
    claims = rehearsable_claims(all_claims, spec)
    hidden = _count(all_claims) - _count(claims)
    consents = getattr(spec, "destroy", None)  # only resources with data ask for consent
    notice = f"destroy: {consents} is still declared" if consents else None
    if text := stack.maintenance.get(declared.source):
        return AuditResult(name, token, 0, (), None, hidden, "; ".join(filter(None, (notice, text))))
    if facts is None:
        raise KeyError(declared.source)  # only a host in maintenance needs no facts
    if isinstance(facts, UserError):
        return AuditResult(name, token, 0, (), str(facts), hidden, notice)
    outputs = kind.report(spec, facts)
    if progress := outputs.get("progress"):
        notice = "; ".join(filter(None, (notice, f"{outputs['state']}: {progress}")))
    differences = comparison.diff(claims, kind.observe(claims, facts))
    return AuditResult(name, token, _count(claims) - len(differences), differences, None, hidden, notice)


def _count(claims: Iterable[Any]) -> int:
    return sum(len(claim.want) for claim in claims)


class DifferenceData(TypedDict):
    """A property with another value than the declared one, or with an unknown value."""

    claim: str
    """The required thing, such as `md:hot`."""
    property: str
    """Name of the property of that thing."""
    severity: Severity
    """Weight of the difference, as its claim declares it."""
    remedy: str
    """Advice for the operator; empty if there is none."""
    unknown: bool
    """Whether the property could not be compared."""
    declared: NotRequired[JSON]
    """The declared value; absent for secrets, and if it is unknown."""
    actual: NotRequired[JSON]
    """The actual value; `{"unknown": REASON}` if it could not be read, absent for secrets."""


class ResourceData(TypedDict):
    """The comparison of one resource."""

    name: str
    """Name of the resource, such as `HOST/TIER` for a tier."""
    type: str
    """Type of the resource for pulumi, such as `rackwright:storage:Tier`."""
    matches: int
    """Number of properties with the declared value."""
    not_rehearsable: int
    """Number of properties that the target of the stack cannot have."""
    not_reached: str | None
    """Reason why nothing is known about the resource."""
    notice: str | None
    """Consent that should be removed from the declaration soon, maintenance, and work in progress."""
    differences: Sequence[DifferenceData]
    """Properties that differ, or could not be compared."""


class UndeclaredData(TypedDict):
    """A thing on a host that nothing declares."""

    host: str
    """Name of the host."""
    rule: str
    """Id of the rule that found it, such as `RW-014`."""
    thing: str
    """Name of the thing, such as `file:/etc/cron.d/x`."""
    found: str
    """Description of the thing; the reason, if the rule could not be applied."""
    severity: Severity
    """Weight of the finding, as its rule declares it."""
    remedy: str
    """Advice for the operator."""
    allowed: str | None
    """Reason of the line under `allow:` that admits the thing; null for a thing that no line admits."""
    unknown: bool
    """Whether the facts of the host do not answer the rule."""


class AuditData(TypedDict):
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


def as_json(report: AuditReport) -> AuditData:
    """Return *report* as JSON data."""
    return {
        "stack": report.stack,
        "exit_status": report.exit_status,
        "notices": dict(report.notices),
        "resources": [
            {
                "name": result.name,
                "type": result.token,
                "matches": result.matches,
                "not_rehearsable": result.not_rehearsable,
                "not_reached": result.not_reached,
                "notice": result.notice,
                "differences": [_difference(item) for item in result.differences],
            }
            for result in report.results
        ],
        "undeclared": [
            {
                "host": item.host,
                "rule": item.rule,
                "thing": item.thing,
                "found": item.found,
                "severity": item.severity,
                "remedy": item.remedy,
                "allowed": item.allowed,
                "unknown": item.is_unknown,
            }
            for item in report.undeclared
        ],
    }


def _difference(item: Difference) -> DifferenceData:
    data: DifferenceData = {
        "claim": item.thing,
        "property": item.name,
        "severity": item.severity,
        "remedy": item.remedy,
        "unknown": item.is_unknown,
    }
    if isinstance(item.want, UnknownValue):
        return {**data, "unknown": True, "actual": encode(item.want)}
    return data if item.secret else {**data, "declared": encode(item.want), "actual": encode(item.actual)}
