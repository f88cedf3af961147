"""The JSON Schema of a fleet's YAML file, for editors: a fleet of hosts, or one that `uses` another's hosts."""

from collections.abc import Mapping

from pydantic.json_schema import models_json_schema

from rackwright.core.repository import RoleSource
from rackwright.fleet.role_schema import FILE, NULL, Schema, roles_schema
from rackwright.fleet.workloads_fleet import RunsFile
from rackwright.fleet.yaml_fleet import FleetFile
from rackwright.schema.base import models
from rackwright.schema.host import Host
from rackwright.schema.units import exact_text

MERGED = models(Host, lists=False)
"""Models that groups and hosts merge: each may leave out a field of the other, or remove it with null."""


def schema(roles: Mapping[str, RoleSource]) -> Schema:
    """Return the JSON Schema, which limits each value by itself; only `rackwright check` finds contradictions."""
    _, generated = models_json_schema([(model, "validation") for model in (FleetFile, Host, RunsFile)])
    definitions: dict[str, Schema] = generated["$defs"]
    file, tiers = definitions["FleetFile"], definitions["Host"]["properties"]["tiers"]
    _by_name(file["properties"]["groups"], {"$ref": "#/$defs/Host"})
    _by_name(file["properties"]["hosts"], {"$ref": "#/$defs/Host"})
    _by_name(file["properties"]["profiles"], {"$ref": "#/$defs/HardwareProfile"})
    _by_name(tiers, _or_null({"$ref": "#/$defs/Tier"}))
    for several, one in (("bonds", "Bond"), ("vlans", "Vlan")):
        _by_name(definitions["Network"]["properties"][several], _or_null({"$ref": f"#/$defs/{one}"}))
    definitions["Host"]["properties"]["roles"].update(roles_schema(roles))
    for definition in definitions.values():
        for value in definition["properties"].values():
            _correct_default(value)
    for model in MERGED:
        definition = definitions[model.__name__]
        definition.pop("required", None)
        definition["properties"] = {name: _or_null(value) for name, value in definition["properties"].items()}
    for model_name in ("ObjectStore", "ClusterApi"):
        definitions[model_name]["properties"]["ca"]["anyOf"].append({"$ref": "#/$defs/TextFile"})
    definitions["TextFile"] = FILE
    for several, one in (("runs", "Run"), ("servers", "Server")):
        _by_name(definitions["RunsFile"]["properties"][several], {"$ref": f"#/$defs/{one}"})
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Fleet",
        "if": {"required": ["uses"]},
        "then": {"$ref": "#/$defs/RunsFile"},
        "else": {"$ref": "#/$defs/FleetFile"},
        "$defs": definitions,
    }


def _correct_default(value: Schema) -> None:
    """Write the default of *value* as a file has it: a size with its unit, and no parts of a mapping."""
    if isinstance(value.get("default"), dict):
        del value["default"]  # the fields of the mapping have their own
    elif isinstance(value.get("default"), int) and value.get("type") == "string":
        value["default"] = exact_text(value["default"])


def _by_name(mapping: Schema, value: Schema) -> None:
    """Set *value* as the schema of each valid name in *mapping*, and forbid other names."""
    mapping["patternProperties"] = dict.fromkeys(mapping["patternProperties"], value)
    mapping["additionalProperties"] = False


def _or_null(value: Schema) -> Schema:
    if NULL in value.get("anyOf", ()):
        return value
    description: Schema = {key: value[key] for key in ("title", "description", "default") if key in value}
    return {**description, "anyOf": [{key: part for key, part in value.items() if key not in description}, NULL]}
