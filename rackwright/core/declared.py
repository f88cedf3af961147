"""A part of the declaration in a spec, and its JSON, which Pulumi's wire and state keep whole."""

import json
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, PlainSerializer

from rackwright.schema.base import Schema
from rackwright.schema.units import EXACT

TEXT = "json"
"""The only key of a mapping that holds a value as a text of JSON. Pulumi's wire drops null, and turns 1.0 into 1."""


def _dump(declared: Schema) -> Any:
    plain = declared.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude_none=True, context=EXACT)
    return _encode(plain)


def _encode(value: Any) -> Any:
    match value:
        case Mapping() if value.keys() != {TEXT}:
            return {key: _encode(each) for key, each in value.items()}
        case list():
            return [_encode(each) for each in value]
        case None | Mapping():
            return {TEXT: json.dumps(value)}
        case float() if value.is_integer():
            return {TEXT: json.dumps(value)}
        case _:
            return value


def _decode(value: Any) -> Any:
    match value:
        case {"json": str(text), **others} if not others:
            return json.loads(text)
        case Mapping():
            return {key: _decode(each) for key, each in value.items()}
        case list():
            return [_decode(each) for each in value]
        case _:
            return value


D = TypeVar("D", bound=Schema)
Declared = Annotated[D, BeforeValidator(_decode), PlainSerializer(_dump, when_used="json")]
"""A part of the declaration in a spec. Its JSON has what is declared, and no defaults."""
