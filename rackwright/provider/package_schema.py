"""Pulumi's package schema of the provider, made from the models of the specs.

It describes the inputs that Check accepts. Pulumi's tools read it for typed SDKs, policies and generated programs.
"""

import inspect
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic.json_schema import models_json_schema

from rackwright import __version__
from rackwright.core.contract import Kind
from rackwright.provider.state_format import PROPERTY

Schema = dict[str, Any]
ANY = {"$ref": "pulumi.json#/Any"}
TYPES = "rackwright:index:"
OUTPUTS: dict[str, Schema] = {
    "claims": {
        "type": "object",
        "additionalProperties": {"type": "object", "additionalProperties": ANY},
        "description": "The observed values of the resource's claims, by thing and property.",
    },
    "report": {
        "type": "object",
        "additionalProperties": ANY,
        "description": "Values that are never compared, such as UUIDs and the progress of a sync.",
    },
    "created": {"type": "boolean", "description": "Whether the resource was complete once."},
    "unreachable": {"type": "string", "description": "The reason why the last observation is an old one."},
    PROPERTY: {"type": "integer", "description": "The format of the resource's state."},
}
"""The outputs of each resource besides its inputs."""
CONFIG: dict[str, Schema] = {
    "fleet": {"type": "string", "description": "The fleet's file, in the directory of the stack's settings."},
    "target": {"type": "string", "description": "`rack`, or `twin:NAME` for a virtual twin."},
    "containers": {
        "type": "array",
        "items": {"type": "string"},
        "description": "Hosts that the twin runs as containers.",
    },
    "without": {
        "type": "array",
        "items": {"type": "string"},
        "description": "Hosts that the twin leaves out.",
    },
    "environments": {
        "type": "array",
        "items": {"type": "string"},
        "description": "Environments of role `workloads` that hosts of the twin have.",
    },
    "mirrors": {"type": "string", "description": "`lent` gives hosts of a twin the mirrors of this computer."},
    "workloads": {
        "type": "string",
        "description": "`lent` gives containers of a twin this computer's environment of the workloads.",
    },
    "object_stores": {
        "type": "object",
        "additionalProperties": {"type": "string"},
        "description": "Addresses of stand-ins for object stores on this computer, by name, for a virtual twin.",
    },
    "secrets": {
        "type": "object",
        "additionalProperties": {"type": "string"},
        "secret": True,
        "description": "Values of the fleet's secrets, by name.",
    },
}
"""The settings of a stack."""


def package_schema(kinds: Mapping[str, Kind[Any]]) -> Schema:
    """Return the package schema of *kinds*, by type token.

    A default stands in the description: an SDK would send a `default` of the schema as a declared value.
    """
    _, generated = models_json_schema([(kind.spec, "validation") for kind in kinds.values()])
    models: dict[str, Schema] = generated["$defs"]
    specs = {kind.spec.__name__ for kind in kinds.values()}
    types: dict[str, Schema] = {}
    objects = {name: _object(name, model, types) for name, model in models.items()}
    types |= {f"{TYPES}{name}": model for name, model in objects.items() if name not in specs}
    return {
        "name": "rackwright",
        "version": __version__,
        "displayName": "rackwright",
        "description": "Private AI on bare metal: hosts, storage tiers, networks, roles, runs and model servers.",
        "license": "Apache-2.0",
        "config": {"variables": CONFIG},
        "provider": {"inputProperties": CONFIG},
        "types": dict(sorted(types.items())),
        "resources": {token: _resource(kind, objects[kind.spec.__name__]) for token, kind in sorted(kinds.items())},
        "language": {"nodejs": {"respectSchemaVersion": True}, "python": {"respectSchemaVersion": True}},
    }


def _resource(kind: Kind[Any], inputs: Schema) -> Schema:
    return {
        "description": _describe(kind),
        "inputProperties": inputs["properties"],
        "requiredInputs": inputs["required"],
        "properties": {**inputs["properties"], **OUTPUTS},
        "required": [*inputs["required"], "claims", "report"],
    }


def _describe(kind: Kind[Any]) -> str:
    """Return the docstring of *kind* as a description of its resources."""
    text = inspect.cleandoc(type(kind).__doc__ or "").removeprefix("The kind of ")
    return text[:1].upper() + text[1:]


def _object(name: str, model: Schema, types: dict[str, Schema]) -> Schema:
    """Return Pulumi's object type of the JSON Schema *model*, and add the enumerations of its properties to *types*."""
    return {
        "type": "object",
        "description": model.get("description", ""),
        "properties": {
            key: _property(f"{name}{key.title().replace('_', '')}", value, types)
            for key, value in model.get("properties", {}).items()
        },
        "required": model.get("required", []),
    }


def _property(name: str, value: Schema, types: dict[str, Schema]) -> Schema:
    """Return Pulumi's property of the JSON Schema *value*; *name* is for an enumeration in it."""
    parts = [value.get("description", ""), *_limits(value)]
    description = " ".join(part for part in parts if part)
    return {**_type(name, value, types), **({"description": description} if description else {})}


def _limits(value: Schema) -> Iterator[str]:
    """Yield sentences about *value* that Pulumi's schema has no keys for."""
    default = value.get("default")
    if default not in (None, [], {}, "") and not isinstance(default, Mapping):
        yield f"Default: {str(default).lower() if isinstance(default, bool) else default}."


def _type(name: str, value: Schema, types: dict[str, Schema]) -> Schema:
    """Return Pulumi's type of the JSON Schema *value*."""
    match value:
        case {"$ref": reference}:
            return {"$ref": f"#/types/{TYPES}{reference.rpartition('/')[2]}"}
        case {"anyOf": choices}:
            several = [_type(name, each, types) for each in choices if each.get("type") != "null"]
            return several[0] if len(several) == 1 else {"oneOf": several}
        case {"enum": choices}:
            types[f"{TYPES}{name}"] = {"type": "string", "enum": [_choice(each) for each in choices]}
            return {"$ref": f"#/types/{TYPES}{name}"}
        case {"const": choice}:  # not Pulumi's `const`, which an SDK would always send
            return _type(name, {"enum": [choice]}, types)
        case {"type": "array"}:
            return {"type": "array", "items": _type(name, value.get("items", {}), types)}
        case {"type": "object"}:
            patterns = [*value.get("patternProperties", {}).values()]
            each = patterns[0] if patterns else value.get("additionalProperties")
            return {
                "type": "object",
                "additionalProperties": _type(name, each, types) if isinstance(each, dict) else ANY,
            }
        case {"type": str(plain)}:
            return {"type": plain}
        case _:
            return ANY


def _choice(value: str) -> Schema:
    """Return a value of an enumeration, with a name that is an identifier."""
    name = re.sub(r"[^0-9A-Za-z]+", "_", value)
    return {"value": value, "name": f"V{name}" if name[0].isdigit() else name}
