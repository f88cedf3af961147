"""The only comparison there is: what is claimed, against what is found."""

from collections.abc import Iterator, Sequence

from rackwright.core.contract import (
    Absent,
    Between,
    Claim,
    Difference,
    Observation,
    OneOf,
    Unknown,
    Value,
    Want,
    Within,
)

NOT_OBSERVED = Unknown("nothing was observed for this property")


def holds(want: Want, found: Value) -> bool:
    """Return whether *found* is what is wanted. Unknown and Absent never hold."""
    match want, found:
        case _, Unknown() | Absent():
            return False
        case OneOf(values), _:
            return found in values
        case Between(low, high), int() | float():
            return (low is None or found >= low) and (high is None or found <= high)
        case Within(values), tuple():
            return set(found) <= set(values)
        case bool(), _:
            return found is want
        case _:
            return want == found and not isinstance(found, bool)


def diff(claims: Sequence[Claim], found: Observation) -> tuple[Difference, ...]:
    """Return what does not hold and what cannot be known, in the order of the claims."""
    return tuple(_differences(claims, found))


def _differences(claims: Sequence[Claim], found: Observation) -> Iterator[Difference]:
    for claim in claims:
        seen = found.get(claim.thing, {})
        for name, want in claim.want.items():
            value = want if isinstance(want, Unknown) else seen.get(name, NOT_OBSERVED)
            if not holds(want, value):
                advice = remedy(claim, name, value)
                yield Difference(claim.thing, name, want, value, claim.severity, advice, claim.secret)


def remedy(claim: Claim, name: str, found: Value) -> str:
    """Return the advice of *claim* about its property *name* for what was *found*."""
    match claim.want[name], found:
        case Unknown(), _:
            return ""  # nothing is wrong on the host: the value is not known here
        case _, Unknown():
            return claim.remedy_unknown
        case _, Absent() if claim.remedy_absent is not None:
            return claim.remedy_absent
        case _:
            return claim.remedies.get(name, claim.remedy)
