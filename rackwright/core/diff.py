"""The diff function: compares claims with observed values, and is the only comparison in rackwright."""

from collections.abc import Iterator, Sequence

from rackwright.core.contract import (
    Absent,
    Between,
    Claim,
    Difference,
    Observation,
    OneOf,
    UnknownValue,
    Value,
    Want,
    Within,
)

NOT_OBSERVED = UnknownValue("nothing was observed for this property")


def holds(want: Want, actual: Value) -> bool:
    """Return whether the *actual* value meets *want*. UnknownValue and Absent never do."""
    match want, actual:
        case _, UnknownValue() | Absent():
            return False
        case OneOf(values), _:
            return actual in values
        case Between(low, high), int() | float():
            return (low is None or actual >= low) and (high is None or actual <= high)
        case Within(values), tuple():
            return set(actual) <= set(values)
        case bool(), _:
            return actual is want
        case _:
            return want == actual and not isinstance(actual, bool)


def diff(claims: Sequence[Claim], observation: Observation) -> tuple[Difference, ...]:
    """Return the properties that do not hold and those with an unknown value, in the order of the claims."""
    return tuple(_differences(claims, observation))


def _differences(claims: Sequence[Claim], observation: Observation) -> Iterator[Difference]:
    for claim in claims:
        values = observation.get(claim.thing, {})
        for name, want in claim.want.items():
            value = want if isinstance(want, UnknownValue) else values.get(name, NOT_OBSERVED)
            if not holds(want, value):
                advice = remedy(claim, name, value)
                yield Difference(claim.thing, name, want, value, claim.severity, advice, claim.secret)


def remedy(claim: Claim, name: str, actual: Value) -> str:
    """Return the advice of *claim* for the *actual* value of its property *name*."""
    match claim.want[name], actual:
        case UnknownValue(), _:
            return ""  # nothing is wrong on the host: this computer does not know the wanted value
        case _, UnknownValue():
            return claim.remedy_unknown
        case _, Absent() if claim.remedy_absent is not None:
            return claim.remedy_absent
        case _:
            return claim.remedies.get(name, claim.remedy)
