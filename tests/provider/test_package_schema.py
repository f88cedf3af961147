"""The package schema: it describes every input, and the inputs of all recorded resources fit it."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from rackwright.core.declared import TEXT
from rackwright.kinds.table import KINDS
from rackwright.provider.package_schema import ANY, CONFIG, package_schema
from tests.support.recorded_hosts import RESOURCES

SCHEMA = package_schema(KINDS)
PLAIN: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
}


def misfits(value: Any, wanted: dict[str, Any], path: str) -> Iterator[str]:
    """Yield the paths below *value* that the type *wanted* of the schema does not describe."""
    if wanted == ANY or (isinstance(value, Mapping) and value.keys() == {TEXT}):
        return
    if "oneOf" in wanted:
        if all([*misfits(value, each, path)] for each in wanted["oneOf"]):
            yield path
    elif "$ref" in wanted:
        yield from misfits(value, SCHEMA["types"][wanted["$ref"].removeprefix("#/types/")], path)
    elif "enum" in wanted:
        yield from () if value in [each["value"] for each in wanted["enum"]] else (path,)
    elif "properties" in wanted:
        yield from object_misfits(value, wanted["properties"], wanted["required"], path)
    elif wanted["type"] == "array":
        for index, each in enumerate(value):
            yield from misfits(each, wanted["items"], f"{path}[{index}]")
    elif wanted["type"] == "object":
        for name, each in value.items():
            yield from misfits(each, wanted["additionalProperties"], f"{path}.{name}")
    elif not isinstance(value, PLAIN[wanted["type"]]):
        yield path


def object_misfits(value: Any, properties: dict[str, Any], required: list[str], path: str) -> Iterator[str]:
    yield from (f"{path}.{name} is missing" for name in required if name not in value)
    for name, each in value.items():
        yield from misfits(each, properties[name], f"{path}.{name}") if name in properties else (f"{path}.{name}",)


@pytest.mark.parametrize("name", RESOURCES)
def test_the_inputs_of_each_resource_fit_the_schema(name: str) -> None:
    resource = RESOURCES[name]
    described = SCHEMA["resources"][resource.token]

    assert [*object_misfits(resource.inputs, described["inputProperties"], described["requiredInputs"], name)] == []


def test_every_resource_and_property_has_a_description() -> None:
    parts = {**SCHEMA["resources"], **SCHEMA["types"]}
    inputs = {
        f"{part}.{name}": each
        for part, described in parts.items()
        for name, each in (described.get("inputProperties") or described.get("properties", {})).items()
    }

    assert [token for token, described in SCHEMA["resources"].items() if not described["description"]] == []
    assert [name for name, each in inputs.items() if not each.get("description")] == []
    assert len(inputs) > 200


def test_no_sdk_sends_a_value_that_the_program_does_not_have() -> None:
    """
    `default` and `const` of a property become inputs; a declared default is no difference to none, but for an error.
    """
    assert "'default':" not in str(SCHEMA)
    assert "'const':" not in str(SCHEMA)
    assert SCHEMA["types"]["rackwright:index:Tier"]["properties"]["bitmap"]["description"].endswith("Default: true.")


def test_the_stacks_secrets_are_secret() -> None:
    assert CONFIG["secrets"]["secret"] is True
    assert SCHEMA["provider"]["inputProperties"]["secrets"]["secret"] is True
