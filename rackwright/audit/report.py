"""What an audit says: for each declared resource, what holds, what differs, and what could not be known."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rackwright.audit.digests import SecretDigests, complete
from rackwright.core import contract
from rackwright.core import diff as comparison
from rackwright.core.contract import Difference, UnknownValue
from rackwright.core.scope import rehearsable_claims
from rackwright.core.wire import encode
from rackwright.errors import RackwrightError
from rackwright.facts.facts import Facts
from rackwright.kinds.shared.unit_overrides import with_overrides
from rackwright.stack import DeclaredResource, Stack, declare

Evidence = Mapping[str, Facts | RackwrightError]
"""By host: its facts, or why there are none."""


@dataclass(frozen=True)
class Result:
    """One resource, compared."""

    name: str
    token: str
    holds: int
    """How many properties are as declared."""
    differences: tuple[Difference, ...] = ()
    not_reached: str | None = None
    """Why nothing could be known of it."""
    not_rehearsable: int = 0
    """Properties that this target cannot show at all."""
    notice: str | None = None
    """What stands declared and should not stand for long, and what is under way."""

    @property
    def differs(self) -> tuple[Difference, ...]:
        return tuple(item for item in self.differences if not item.is_unknown)

    @property
    def unknown(self) -> tuple[Difference, ...]:
        return tuple(item for item in self.differences if item.is_unknown)


@dataclass(frozen=True)
class Report:
    """A whole stack, compared."""

    stack: str
    results: tuple[Result, ...]
    notices: Mapping[str, str] = field(default_factory=dict)
    """What is to be said and is no property of a host, by what it is about."""

    @property
    def exit_status(self) -> int:
        """0 all holds, 1 something differs, 3 nothing differs but something is unknown."""
        if any(result.differs for result in self.results):
            return 1
        return 3 if any(result.unknown or result.not_reached for result in self.results) else 0


def compare(
    stack: Stack, evidence: Evidence, told: SecretDigests | None = None, notices: Mapping[str, str] | None = None
) -> Report:
    """Set what *stack* declares against *evidence*.

    Args:
        told: What it claims because of secrets, where these are not known here.
        notices: What is to be said besides.
    """
    results = tuple(_compare(stack, item, evidence, told or {}) for item in declare(stack))
    return Report(stack.name, results, notices or {})


def _compare(stack: Stack, declared: DeclaredResource, evidence: Evidence, told: SecretDigests) -> Result:
    kind, spec = declared.kind, declared.spec
    everything = complete(with_overrides(contract.claims(kind, spec, stack.repository)), told.get(declared.name, {}))
    claims = rehearsable_claims(everything, spec)
    hidden = _count(everything) - _count(claims)
    consents = getattr(spec, "destroy", None)  # only what holds data asks for consent
    notice = f"destroy: {consents} stands" if consents else None
    if text := stack.maintenance.get(spec.host):
        return Result(declared.name, declared.token, 0, (), None, hidden, "; ".join(filter(None, (notice, text))))
    facts = evidence[spec.host]
    if isinstance(facts, RackwrightError):
        return Result(declared.name, declared.token, 0, (), str(facts), hidden, notice)
    shown = kind.report(spec, facts)
    if progress := shown.get("progress"):
        notice = "; ".join(filter(None, (notice, f"{shown['state']}: {progress}")))
    differences = comparison.diff(claims, kind.observe(claims, facts))
    return Result(declared.name, declared.token, _count(claims) - len(differences), differences, None, hidden, notice)


def _count(claims: Iterable[Any]) -> int:
    return sum(len(claim.want) for claim in claims)


def as_json(report: Report) -> dict[str, Any]:
    """Return *report* for machines."""
    return {
        "stack": report.stack,
        "exit_status": report.exit_status,
        "notices": dict(report.notices),
        "resources": [
            {
                "name": result.name,
                "type": result.token,
                "holds": result.holds,
                "not_rehearsable": result.not_rehearsable,
                "not_reached": result.not_reached,
                "notice": result.notice,
                "differences": [_difference(item) for item in result.differences],
            }
            for result in report.results
        ],
    }


def _difference(item: Difference) -> dict[str, Any]:
    shown = {"claim": item.thing, "property": item.name, "severity": item.severity, "remedy": item.remedy}
    if isinstance(item.want, UnknownValue):
        return {**shown, "unknown": True, "found": encode(item.want)}
    if item.secret:
        return {**shown, "unknown": item.is_unknown}
    return {**shown, "unknown": item.is_unknown, "wanted": encode(item.want), "found": encode(item.actual)}
