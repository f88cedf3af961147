"""Compare each declared resource with the facts, and report matches, differences and unknown properties."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rackwright.audit.digests import SecretDigests, insert_digests
from rackwright.core import contract
from rackwright.core import diff as comparison
from rackwright.core.contract import Difference, UnknownValue
from rackwright.core.scope import rehearsable_claims
from rackwright.core.wire import encode
from rackwright.errors import UserError
from rackwright.facts.facts import Facts
from rackwright.kinds.shared.unit_overrides import with_overrides
from rackwright.stack import DeclaredResource, Stack, declare

Evidence = Mapping[str, Facts | UserError]
"""Facts by host, or the error of a host without facts."""


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
class AuditReport:
    """Results of the comparison of all resources of a stack."""

    stack: str
    results: tuple[AuditResult, ...]
    notices: Mapping[str, str] = field(default_factory=dict)
    """Notices that do not concern a property of a host, by subject."""

    @property
    def exit_status(self) -> int:
        """0 if all properties match, 1 if any differs, 3 if none differs but some are unknown."""
        if any(result.known_differences for result in self.results):
            return 1
        return 3 if any(result.unknown_differences or result.not_reached for result in self.results) else 0


def compare(
    stack: Stack, evidence: Evidence, digests: SecretDigests | None = None, notices: Mapping[str, str] | None = None
) -> AuditReport:
    """Return the comparison of each resource of *stack* with *evidence*.

    Args:
        digests: Wanted values that depend on secrets, if the secrets are not available.
        notices: Further notices for the report, by subject.
    """
    results = tuple(_compare(stack, item, evidence, digests or {}) for item in declare(stack))
    return AuditReport(stack.name, results, notices or {})


def _compare(stack: Stack, declared: DeclaredResource, evidence: Evidence, digests: SecretDigests) -> AuditResult:
    kind, spec, name, token = declared.kind, declared.spec, declared.name, declared.token
    all_claims = insert_digests(with_overrides(contract.claims(kind, spec, stack.repository)), digests.get(name, {}))
    claims = rehearsable_claims(all_claims, spec)
    hidden = _count(all_claims) - _count(claims)
    consents = getattr(spec, "destroy", None)  # only resources with data ask for consent
    notice = f"destroy: {consents} is still declared" if consents else None
    if text := stack.maintenance.get(spec.host):
        return AuditResult(name, token, 0, (), None, hidden, "; ".join(filter(None, (notice, text))))
    facts = evidence[spec.host]
    if isinstance(facts, UserError):
        return AuditResult(name, token, 0, (), str(facts), hidden, notice)
    outputs = kind.report(spec, facts)
    if progress := outputs.get("progress"):
        notice = "; ".join(filter(None, (notice, f"{outputs['state']}: {progress}")))
    differences = comparison.diff(claims, kind.observe(claims, facts))
    return AuditResult(name, token, _count(claims) - len(differences), differences, None, hidden, notice)


def _count(claims: Iterable[Any]) -> int:
    return sum(len(claim.want) for claim in claims)


def as_json(report: AuditReport) -> dict[str, Any]:
    """Return *report* as JSON data."""
    return {
        "stack": report.stack,
        "exit_status": report.exit_status,
        "notices": dict(report.notices),
        "resources": [
            {
                "name": result.name,
                "type": result.token,
                "holds": result.matches,
                "not_rehearsable": result.not_rehearsable,
                "not_reached": result.not_reached,
                "notice": result.notice,
                "differences": [_difference(item) for item in result.differences],
            }
            for result in report.results
        ],
    }


def _difference(item: Difference) -> dict[str, Any]:
    data = {"claim": item.thing, "property": item.name, "severity": item.severity, "remedy": item.remedy}
    if isinstance(item.want, UnknownValue):
        return {**data, "unknown": True, "found": encode(item.want)}
    if item.secret:
        return {**data, "unknown": item.is_unknown}
    return {**data, "unknown": item.is_unknown, "wanted": encode(item.want), "found": encode(item.actual)}
