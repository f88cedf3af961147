"""Limits of the JSON Schemas in requests, whose grammars decide what each token costs."""

from typing import Any
from urllib.parse import unquote

from pydantic_core import to_json

SCHEMA_BYTES, SCHEMA_DEPTH, SCHEMA_PARTS = 16 << 10, 16, 512
"""Limits of a JSON Schema: llama.cpp makes a grammar of it, whose size the time of each token depends on."""
REPETITIONS = ("minLength", "maxLength", "minItems", "maxItems")
MOST_REPETITIONS = 4096
"""The largest sum of all values of REPETITIONS in a schema: llama.cpp writes a rule for each."""


def check_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """Return *schema* if the grammar of it has a bounded size."""
    measure_schema(schema)
    return schema


def measure_schema(schema: dict[str, Any]) -> tuple[int, int]:
    """Return the values and the repetitions of *schema*, with a copy of each part that a reference names.

    Alternatives that refer to alternatives would multiply the ways in which llama.cpp reads each character.

    Raises:
        ValueError: the schema is beyond its limits.
    """
    if len(to_json(schema)) > SCHEMA_BYTES:
        raise ValueError(f"the schema has more than {SCHEMA_BYTES} bytes")
    parts = repetitions = 0
    level: list[Any] = [schema]
    for _ in range(SCHEMA_DEPTH):
        below: list[Any] = []
        for each in level:  # grows by the parts that references name
            parts += 1
            if parts > SCHEMA_PARTS:
                raise ValueError(f"the schema has more than {SCHEMA_PARTS} values, with the parts of its references")
            if isinstance(each, dict):
                repetitions += _check_keywords(each)
                below += each.values()
                if isinstance(reference := each.get("$ref"), str):
                    level.append(resolve_reference(schema, reference))
            elif isinstance(each, list):
                below += each
        level = below
    if level:
        raise ValueError(f"the schema is nested deeper than {SCHEMA_DEPTH}, or refers to itself")
    if repetitions > MOST_REPETITIONS:
        names = ", ".join(REPETITIONS)
        raise ValueError(f"the values of {names} in the schema are more than {MOST_REPETITIONS} together")
    return parts, repetitions


def resolve_reference(schema: dict[str, Any], reference: str) -> Any:
    """Return the part of *schema* that *reference* names, such as ``#/$defs/city``."""
    root, *names = reference.split("/")
    found: Any = schema
    for name in map(_unescape, names):
        if isinstance(found, dict) and name in found:
            found = found[name]
        elif isinstance(found, list) and name.isascii() and name.isdecimal() and int(name[:4]) < len(found):
            found = found[int(name[:4])]
        else:
            root = ""
    if root != "#":
        raise ValueError(f"the schema has no part {reference[:64]!r}, to which it refers")
    return found


def _unescape(name: str) -> str:
    """Return the *name* of a part of a JSON Pointer in a URI. Source: RFC 6901, sections 4 and 6."""
    return unquote(name).replace("~1", "/").replace("~0", "~")


def _check_keywords(schema: dict[str, Any]) -> int:
    """Return the sum of the repetitions that *schema* itself asks for.

    A reference may point at any part of a schema, so each object counts as a schema. A property may have the name of
    a keyword: its value is an object then, and no text or number.

    Raises:
        ValueError: *schema* has a regular expression, or a number of repetitions that has no meaning. The time for
            each token has no bound with an expression such as ``(a?|a?){300}``, and llama.cpp writes no other text in
            that time.
    """
    if isinstance(schema.get("pattern"), str):
        raise ValueError("the schema has the keyword pattern; remove it, and check the answer with it instead")
    return sum(map(_repetitions, (schema.get(name) for name in REPETITIONS)))


def _repetitions(value: object) -> int:
    """Return the repetitions that *value* of a keyword asks for.

    Raises:
        ValueError: *value* is another number than these: llama.cpp keeps the low 32 bits of a larger one, and the
            whole part of a broken one.
    """
    if not isinstance(value, int | float):
        return 0
    if not 0 <= value <= MOST_REPETITIONS or value != int(value):
        names = ", ".join(REPETITIONS)
        raise ValueError(f"each number at {names} in the schema is whole, and from 0 to {MOST_REPETITIONS}")
    return int(value)
