"""The JSON Schema of roles and their variables, from each role's argument specification and formats."""

from collections.abc import Mapping
from typing import Any

from rackwright.core.repository import RoleSource
from rackwright.schema import secret
from rackwright.schema.formats import FORMATS

Schema = dict[str, Any]
NULL = {"type": "null"}
TIER = {
    "type": "object",
    "properties": {"tier": {"type": "string"}},
    "required": ["tier"],
    "additionalProperties": False,
}
"""A reference to a tier, which stands for its mount."""
FILE = {
    "title": "TextFile",
    "description": "A file beside the fleet, which stands for its text.",
    "type": "object",
    "properties": {
        "file": {"type": "string", "pattern": "^[^/]", "description": "Path below the folder of the fleet."}
    },
    "required": ["file"],
    "additionalProperties": False,
}
TYPES: Mapping[str, Schema] = {
    "bool": {"type": "boolean"},
    "dict": {"type": "object"},
    "float": {"type": "number"},
    "int": {"type": "integer"},
    "list": {"type": "array"},
    "raw": {},
}


def roles_schema(roles: Mapping[str, RoleSource]) -> Schema:
    """Return the schema of the mapping ``roles`` of a host."""
    properties = {name: {"anyOf": [_role(source), NULL]} for name, source in roles.items()}
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _role(source: RoleSource) -> Schema:
    properties = {}
    for name, option in source.options.items():
        short = name.removeprefix(f"{source.name}_")
        default = source.defaults.get(name)
        shown = {"description": option["description"], **({} if default is None else {"default": default})}
        # an empty text leaves a variable out, whatever its format is
        empty = [{"const": ""}] if default == "" and short in source.formats else []
        properties[short] = {**shown, "anyOf": [_value(source, option, short), *empty, NULL]}
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _value(source: RoleSource, option: Mapping[str, Any], path: str) -> Schema:
    """Return the schema of the value at *path*, without the indexes of lists."""
    kind = option.get("type", "str")
    if kind == "list":
        return {"type": "array", "items": _value(source, {**option, "type": option.get("elements", "raw")}, path)}
    if kind == "dict" and "options" in option:
        return _mapping(source, option["options"], path)
    return TYPES[kind] if kind in TYPES else {"anyOf": [*_texts(source, option, path), secret.SCHEMA, TIER, FILE]}


def _mapping(source: RoleSource, options: Mapping[str, Any], path: str) -> Schema:
    properties = {
        name: {"description": option["description"], **_value(source, option, f"{path}.{name}")}
        for name, option in options.items()
    }
    required = [name for name, option in options.items() if option.get("required")]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _texts(source: RoleSource, option: Mapping[str, Any], path: str) -> list[Schema]:
    """Return the schemas of a text: one of the choices, of a format, or any text or number."""
    if "choices" in option:
        return [{"type": "string", "enum": list(option["choices"])}]
    pattern = FORMATS[source.formats[path]].pattern if path in source.formats else ""
    return [{"type": "string", "pattern": pattern}] if pattern else [{"type": "string"}, {"type": "number"}]
