"""The JSON Schema says of a file what loading it says, as far as one value at a time goes."""

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rackwright.fleet.load import schema
from rackwright.fleet.source import read
from tests.support.our_roles import ROLES
from workloads.process_variables import FORMS

RACK = Path(__file__).parents[2] / "stacks" / "rack.yaml"
TRAINING, SERVING = RACK.with_name("training.yaml"), RACK.with_name("serving.yaml")
WIRED = Path(__file__).parents[1] / "kinds" / "wired.yaml"
SORTS = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int, "null": type(None)}
SORTS["number"] = (int, float)
SCHEMA = schema(ROLES)


def valid(value: Any, part: dict[str, Any]) -> bool:
    """Return whether *part* of the schema allows *value*; it knows the keywords that the schema uses, no more."""
    if "$ref" in part and not valid(value, SCHEMA["$defs"][part["$ref"].rpartition("/")[2]]):
        return False
    if "if" in part:
        chosen = isinstance(value, dict) and {*part["if"]["required"]} <= value.keys()
        return valid(value, part["then" if chosen else "else"])
    if "anyOf" in part and not any(valid(value, choice) for choice in part["anyOf"]):
        return False
    sort = SORTS.get(part.get("type", ""), object)
    if not isinstance(value, sort) or (sort is int and isinstance(value, bool)):
        return False
    if value not in part.get("enum", [value]) or value != part.get("const", value):
        return False
    match value:
        case str():
            refused = re.search(part["not"]["pattern"], value) if "not" in part else False
            return not refused and bool(re.search(part.get("pattern", ""), value))
        case bool():
            return True
        case int():
            if value <= part.get("exclusiveMinimum", value - 1):
                return False
            return bool(part.get("minimum", value) <= value <= part.get("maximum", value))
        case list():
            return all(valid(item, part.get("items", {})) for item in value)
        case dict():
            known = set(part.get("required", ())) <= value.keys()
            return known and all(valid(item, _below(part, key)) for key, item in value.items())
    return True


def _below(part: dict[str, Any], key: str) -> dict[str, Any]:
    nothing = {"type": "nothing", "enum": []}
    patterns = part.get("patternProperties", {}).items()
    named = [shape for pattern, shape in patterns if re.search(pattern, key)]
    shape = part.get("properties", {}).get(key) or (named or [part.get("additionalProperties", {})])[0]
    return nothing if shape is False else {} if shape is True else shape


BY_NAME = tuple(
    (key,)
    for key in (
        "hosts",
        "groups",
        "tiers",
        "wipe",
        "bonds",
        "vlans",
        "runs",
        "servers",
        "set",
        "saving",
        "keys",
        "sysctls",
    )
)


def mappings(value: Any, keys: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield where *value* has mappings with known keys: not those by name."""
    if isinstance(value, dict):
        if keys[-1:] not in BY_NAME:
            yield keys
        for key, item in value.items():
            yield from mappings(item, (*keys, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from mappings(item, (*keys, index))


def at(value: Any, keys: tuple[Any, ...]) -> Any:
    for key in keys:
        value = value[key]
    return value


def test_the_schema_allows_a_part_of_a_mapping_that_groups_and_hosts_merge() -> None:
    fleet = copy.deepcopy(read(RACK).data)
    fleet["groups"]["training"]["maintenance"] = {"reason": "new power supplies"}

    assert valid(fleet, SCHEMA)


@pytest.mark.parametrize("path", [RACK, WIRED, TRAINING, SERVING], ids=lambda path: path.stem)
def test_the_schema_allows_the_examples(path: Path) -> None:
    assert valid(read(path).data, SCHEMA)


@pytest.mark.parametrize(
    ("path", "keys"),
    [(path, keys) for path in (RACK, WIRED, TRAINING, SERVING) for keys in mappings(read(path).data)],
    ids=repr,
)
def test_the_schema_refuses_an_unknown_key_in_every_mapping(path: Path, keys: tuple[Any, ...]) -> None:
    fleet = copy.deepcopy(read(path).data)
    at(fleet, keys)["unknown"] = 1
    assert not valid(fleet, SCHEMA)


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("fleet",), "The Rack"),
        (("hosts",), None),
        (("groups", "training", "os"), "debian-11"),
        (("groups", "training", "profile"), "The Toaster"),
        (("groups", "training", "needs"), {"precision": ["int4"]}),
        (("groups", "training", "needs"), {"torch": "2.9"}),
        (("groups", "training", "needs"), {"cuda": 12}),
        (("groups", "training", "tiers", "Not A Name"), {}),
        (("groups", "training", "tiers", "hot", "chunk"), "512"),
        (("groups", "training", "tiers", "hot", "chunk"), 512),
        (("groups", "training", "tiers", "hot", "bitmap"), "yes"),
        (("groups", "training", "tiers", "hot", "destroy"), "yes"),
        (("hosts", "gpu-01", "drives", 0, "serial"), "/dev/sda"),
        (("hosts", "gpu-01", "drives", 1, "size"), "3.84"),
        (("hosts", "gpu-01", "nics", 0, "mac"), "00-00-5e-00-53-01"),
        (("hosts", "gpu-01", "nics", 0, "mtu"), 70000),
    ],
)
def test_the_schema_refuses_a_wrong_value(keys: tuple[Any, ...], value: Any) -> None:
    fleet = copy.deepcopy(read(RACK).data)
    at(fleet, keys[:-1])[keys[-1]] = value
    assert not valid(fleet, SCHEMA)


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("nics", 0, "name"), "a name"),
        (("nics", 0, "pci"), "3b.00"),
        (("network", "bonds", "bond0", "mode"), "lacp"),
        (("network", "bonds", "no/name"), {"mode": "802.3ad"}),
        (("network", "vlans", "storage", "id"), 4095),
        (("network", "routes", 0, "metric"), 0),
        (("network", "takeover"), "netplan"),
        (("network", "confirm_seconds"), 5),
    ],
)
def test_the_schema_refuses_a_wrong_network(keys: tuple[Any, ...], value: Any) -> None:
    fleet = copy.deepcopy(read(WIRED).data)
    at(fleet["hosts"]["gamma"], keys[:-1])[keys[-1]] = value
    assert not valid(fleet, SCHEMA)


@pytest.mark.parametrize(
    ("path", "keys", "value"),
    [
        (TRAINING, ("runs", "digits", "launcher"), "mpirun"),
        (TRAINING, ("runs", "digits", "processes"), 0),
        (TRAINING, ("runs", "digits", "restart"), "always"),
        (TRAINING, ("key",), "hunter2"),
        (TRAINING, ("key", "secret"), "Not A Name"),
        (TRAINING, ("runs", "Not A Name"), {"recipe": "digits", "checkpoints": {"tier": "warm"}}),
        (SERVING, ("servers", "digits", "port"), 80),
        (SERVING, ("servers", "digits", "listen"), "loopback"),
        (TRAINING, ("runs", "digits", "variables"), {"NCCL_NET_PLUGIN": "x"}),
        (SERVING, ("servers", "digits", "variables"), {"NCCL_IB_HCA": "/x"}),
        (SERVING, ("servers", "digits", "variables"), {"NCCL_IB_DISABLE": 2}),
        (SERVING, ("hosts",), {}),
    ],
)
def test_the_schema_refuses_a_wrong_run_or_server(path: Path, keys: tuple[Any, ...], value: Any) -> None:
    fleet = copy.deepcopy(read(path).data)
    at(fleet, keys[:-1])[keys[-1]] = value
    assert not valid(fleet, SCHEMA)


@pytest.mark.parametrize(("path", "kind"), [(TRAINING, "runs"), (SERVING, "servers")])
def test_the_schema_has_the_variables_of_the_list_alone(path: Path, kind: str) -> None:
    fleet = copy.deepcopy(read(path).data)
    fleet[kind]["digits"]["variables"] = {"NCCL_IB_HCA": "=mlx5_0", "NCCL_IB_DISABLE": 1}
    part = SCHEMA["$defs"][{"runs": "Run", "servers": "Server"}[kind]]["properties"]["variables"]

    assert valid(fleet, SCHEMA)
    assert part["properties"].keys() == FORMS.keys() and part["additionalProperties"] is False


def test_a_host_may_remove_what_its_group_says() -> None:
    fleet = copy.deepcopy(read(RACK).data)
    fleet["hosts"]["gpu-01"] |= {
        "profile": None,
        "needs": {"torch": None},
        "tiers": {"hot": None, "warm": {"chunk": None}},
    }
    assert valid(fleet, SCHEMA)


def test_every_value_has_a_description() -> None:
    for name, definition in SCHEMA["$defs"].items():
        for field, value in definition["properties"].items():
            assert value.get("description"), f"{name}.{field}"


def test_every_default_is_a_value_that_the_schema_allows() -> None:
    wrong = [
        f"{name}.{field}: {value['default']!r}"
        for name, definition in SCHEMA["$defs"].items()
        for field, value in definition["properties"].items()
        if value.get("default") is not None and not valid(value["default"], value)
    ]

    assert wrong == []


@pytest.mark.parametrize("role", ROLES)
def test_every_variable_of_a_role_has_its_type_and_its_default(role: str) -> None:
    variables = SCHEMA["$defs"]["Host"]["properties"]["roles"]["anyOf"][0]["properties"][role]["anyOf"][0]["properties"]

    assert {f"{role}_{name}" for name in variables} == {*ROLES[role].options}
    for name, variable in variables.items():
        assert variable.get("default") == ROLES[role].defaults.get(f"{role}_{name}")
        assert "default" not in variable or valid(variable["default"], variable), name


@pytest.mark.parametrize(
    ("role", "variables"),
    [
        ("bass", {}),
        ("base", {"timezon": "Etc/UTC"}),
        ("base", {"packages": "htop"}),
        ("base", {"packages": ["Htop"]}),
        ("base", {"clock_offset_seconds": "soon"}),
        ("base", {"ntp_keys": [{"id": 1, "type": "SHA256", "servers": []}]}),
        ("base", {"ntp_keys": [{"id": 1, "type": "MD5", "key": {"secret": "a"}, "servers": []}]}),
        ("access", {"people": [{"name": "x", "function": "boss", "keys": []}]}),
        ("mlflow", {"artifacts": {"tiers": "warm"}}),
    ],
)
def test_the_schema_refuses_a_wrong_variable_of_a_role(role: str, variables: dict[str, Any]) -> None:
    fleet = copy.deepcopy(read(RACK).data)
    fleet["groups"]["training"]["roles"] = {"base": {"timezone": "Etc/UTC", "packages": None}}
    assert valid(fleet, SCHEMA)

    fleet["groups"]["training"]["roles"] = {role: variables}
    assert not valid(fleet, SCHEMA)


def test_the_schema_is_json() -> None:
    assert json.loads(json.dumps(SCHEMA)) == SCHEMA
