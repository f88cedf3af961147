"""The inputs of a resource, as a spec and back, and what is wrong with them."""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from pydantic import ValidationError

from rackwright.core import wire
from rackwright.core.contract import Kind, Spec
from rackwright.core.wire import JSON
from rackwright.provider import codec
from rackwright.provider.subject import COMPUTED, Properties, Subject, Urn

_NOT_OF_FLEET = (
    "the program changes this value of {id}, and the fleet's file declares another;"
    " remove the transformation or ignoreChanges, and write the value into the fleet"
)


class InputProblem(NamedTuple):
    """An invalid input."""

    path: str
    reason: str


def parse_spec(kind: Kind[Any], inputs: Properties) -> Spec:
    """Return the spec that *inputs* of a resource hold.

    Raises:
        ValidationError: *inputs* have another shape.
    """
    declared = {name: value for name, value in inputs.items() if name not in COMPUTED}
    spec: Spec = kind.spec.model_validate_json(json.dumps(declared))  # JSON, where a list may become a tuple
    return spec


def declared_inputs(spec: Spec) -> dict[str, JSON]:
    """Return the inputs that *spec* declares, without those that are computed."""
    inputs: dict[str, JSON] = wire.normalise(spec.model_dump(mode="json", exclude_none=True))
    return inputs


def other_than_in_fleet(subject: Subject, urn: Urn) -> Iterator[InputProblem]:
    """Yield the inputs of *subject* that the fleet declares otherwise, for an audit compares with the fleet."""
    in_fleet = subject.site.find_inputs(urn.token, subject.id)
    if in_fleet is None:
        return  # the program alone declares it
    inputs, wanted = declared_inputs(subject.spec), declared_inputs(parse_spec(subject.kind, in_fleet))
    for name in sorted({*wanted, *inputs}):
        if wanted.get(name) != inputs.get(name):
            yield InputProblem(name, _NOT_OF_FLEET.format(id=subject.id))


def input_problems(error: ValidationError) -> list[InputProblem]:
    """Return what pydantic found wrong with the inputs of a resource."""
    return [
        InputProblem(codec.property_path(*item["loc"]) if item["loc"] else "", f"got {item['input']!r}: {item['msg']}")
        for item in error.errors(include_url=False)
    ]
