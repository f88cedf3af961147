"""Texts that files of root, shells or terminals would read as their own: no format and no field accepts them."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from rackwright.schema import Fleet, network, port, ssh
from rackwright.schema.base import COUNT_MAX, models
from rackwright.schema.cluster_api import ClusterApi
from rackwright.schema.formats import FORMATS
from rackwright.schema.mirror import Mirror
from rackwright.schema.object_store import StoreUrl
from rackwright.schema.server import TOKENS_MAX
from tests.support.hostile_texts import CONTROL, PARSED, QUOTES, RIGHT, variants

OTHERS: dict[str, tuple[Any, str]] = {
    "address of a port": (port.Cidr, "192.0.2.11/24"),
    "IPv6 address of a port": (port.Cidr, "2001:db8::1/64"),
    "destination": (network.Destination, "198.51.100.0/24"),
    "next hop": (network.IpAddress, "2001:db8::1"),
    "URL of a store": (StoreUrl, "https://store.example:8333"),
    "URL of an API": (ClusterApi.model_fields["url"].rebuild_annotation(), "https://api.example:6443/path"),
    "URL of a mirror": (Mirror.model_fields["url"].rebuild_annotation(), "https://mirror.example/rack"),
}


@pytest.mark.parametrize("name", PARSED)
def test_a_format_accepts_no_text_with_a_hostile_character(name: str) -> None:
    accepted = [each for text in RIGHT[name] for each in variants(text) if FORMATS[name].problem(each) is None]

    assert accepted == []


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_accepts_no_character_that_is_not_printed(name: str) -> None:
    lines = "\n\t" if FORMATS[name].has_lines else ""
    texts = [text + sign for text in RIGHT[name] for sign in CONTROL if sign not in lines]

    assert texts
    assert [text for text in texts if FORMATS[name].problem(text) is None] == []


@pytest.mark.parametrize("name", OTHERS)
def test_a_field_accepts_no_text_with_a_hostile_character(name: str) -> None:
    shape, text = OTHERS[name]
    adapter: TypeAdapter[str] = TypeAdapter(shape)
    assert adapter.validate_python(text)

    assert [each for each in variants(text) if _accepts(adapter.validate_python, each)] == []


@pytest.mark.parametrize("text", ["192.0.2.1", "fe80::1", "gpu-01.example"])
def test_ssh_reaches_no_address_with_a_hostile_character(text: str) -> None:
    for parse in (ssh.parse_address, lambda each: ssh.parse_jump(f"admin@[{each}]:22")):
        wrong = [each for each in variants(text) if each.isprintable() is False or set(each) & {*QUOTES}]
        assert [each for each in wrong if _accepts(parse, each)] == []


def _accepts(parse: Callable[[str], object], text: str) -> bool:
    try:
        parse(text)
    except (ValueError, ValidationError):
        return False
    return True


def integers(schema: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each part of a JSON *schema* that is about whole numbers, with its path."""
    if isinstance(schema, dict):
        if schema.get("type") == "integer":
            yield path, schema
        for key, value in schema.items():
            if key != "$defs":
                yield from integers(value, f"{path}.{key}")
    elif isinstance(schema, list):
        for value in schema:
            yield from integers(value, path)


@pytest.mark.parametrize(
    "model", sorted(models(Fleet), key=lambda model: model.__name__), ids=lambda model: model.__name__
)
def test_every_number_of_a_declaration_has_a_limit(model: type[BaseModel]) -> None:
    properties = model.model_json_schema().get("properties", {})
    numbers = dict(integers(properties))
    limits = {path: schema.get("maximum", schema.get("exclusiveMaximum")) for path, schema in numbers.items()}

    assert [path for path, limit in limits.items() if limit is None] == []
    assert [path for path, limit in limits.items() if limit > COUNT_MAX and limit not in (2**32 - 1, TOKENS_MAX)] == []
    json.dumps(limits, allow_nan=False)
