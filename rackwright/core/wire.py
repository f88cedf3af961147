"""Claims and observations as the plain JSON of Pulumi's inputs, outputs and state."""

from collections.abc import Iterable, Mapping
from typing import Any

from rackwright.core.contract import (
    Absent,
    Between,
    Claim,
    Observation,
    OneOf,
    UnknownValue,
    Value,
    Want,
    Within,
)

JSON = Any
"""A value that ``json.dumps`` accepts."""


def normalise(value: JSON) -> JSON:
    """Return *value* with sorted keys, lists for tuples and integers for integral numbers.

    gRPC's Struct turns 5000 into 5000.0 and changes the order of mappings, so callers normalise a value before they
    render, compare or digest it.
    """
    match value:
        case float() if value.is_integer():
            return int(value)
        case Mapping():
            return {key: normalise(value[key]) for key in sorted(value)}
        case list() | tuple():
            return [normalise(item) for item in value]
        case _:
            return value


def encode_claims(claims: Iterable[Claim]) -> dict[str, JSON]:
    """Return ``{thing: {property: wanted value}}``."""
    return _merge((claim.thing, {name: encode(want) for name, want in claim.want.items()}) for claim in claims)


def encode_observation(observation: Observation) -> dict[str, JSON]:
    """Return ``{thing: {property: observed value}}``, with the same keys as the claims."""
    return _merge(
        (thing, {name: encode(value) for name, value in values.items()}) for thing, values in observation.items()
    )


def decode_observation(plain: Mapping[str, Mapping[str, JSON]]) -> Observation:
    """Return the observation that *encode_observation* encoded as *plain*."""
    return {thing: {name: _decode(value) for name, value in values.items()} for thing, values in plain.items()}


def encode(value: Want | Value) -> JSON:
    """Return a scalar unchanged, a tuple as a list, and any other value as a mapping that names its type."""
    match value:
        case Between(low, high):
            return {key: bound for key, bound in (("at_least", low), ("at_most", high)) if bound is not None}
        case OneOf(values):
            return {"one_of": [encode(choice) for choice in values]}
        case Within(values):
            return {"within": list(values)}
        case Absent():
            return {"absent": True}
        case UnknownValue(reason):
            return {"unknown": reason}
        case tuple():
            return list(value)
        case _:
            return value


def decode_want(plain: JSON) -> Want:
    """Return the wanted value that *encode* encoded as *plain*."""
    match normalise(plain):
        case {"one_of": list(values)}:
            return OneOf(tuple(tuple(value) if isinstance(value, list) else value for value in values))
        case {"within": list(values)}:
            return Within(tuple(values))
        case {"unknown": str(reason)}:
            return UnknownValue(reason)
        case Mapping() as bounds:
            return Between(bounds.get("at_least"), bounds.get("at_most"))
        case list(items):
            return tuple(items)
        case scalar:
            return scalar  # type: ignore[no-any-return]


def _decode(plain: JSON) -> Value:
    match normalise(plain):
        case {"absent": True}:
            return Absent()
        case {"unknown": str(reason)}:
            return UnknownValue(reason)
        case list(items):
            return tuple(items)
        case bool() | int() | float() | str() as scalar:
            return scalar
        case other:
            return UnknownValue(f"the state holds {other!r}, which this version cannot read")


def _merge(parts: Iterable[tuple[str, dict[str, JSON]]]) -> dict[str, JSON]:
    things: dict[str, dict[str, JSON]] = {}
    for thing, properties in parts:
        things.setdefault(thing, {}).update(properties)
    return {thing: dict(sorted(things[thing].items())) for thing in sorted(things)}
