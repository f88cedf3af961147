"""The conversion between the engine's Struct and plain JSON."""

from collections.abc import Container, Iterator, Mapping
from typing import Any

from google.protobuf.struct_pb2 import Struct, Value
from pulumi.runtime import rpc

from rackwright.core.wire import JSON
from rackwright.errors import visible


def decode(struct: Struct, without: Container[str] = ()) -> dict[str, JSON]:
    """Return *struct* as plain JSON, like ``wire.normalise``. Secrets arrive unmarked: the handshake declines marks.

    Args:
        without: Names to skip: decoding unused properties takes a tenth of a preview.
    """
    return {name: _plain(struct.fields[name]) for name in sorted(struct.fields) if name not in without}


def encode(plain: Mapping[str, JSON]) -> Struct:
    struct = Struct()
    struct.update(plain)
    return struct


def visible_texts(value: Any) -> Any:
    """Return *value* from a host with the control characters in its texts made visible: pulumi prints them."""
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, Mapping):
        return {visible(name): visible_texts(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [visible_texts(each) for each in value]
    return value


def secret(value: JSON) -> JSON:
    """Return *value* with Pulumi's secret mark: the engine encrypts it in the state and never prints it."""
    return {rpc._special_sig_key: rpc._special_secret_sig, "value": value}


def bare(value: JSON) -> JSON:
    """Return *value* without the secret mark: a provider's configuration has marks despite the handshake."""
    return value["value"] if isinstance(value, Mapping) and rpc._special_sig_key in value else value


def unknowns(inputs: Mapping[str, JSON]) -> Iterator[str]:
    """Return the names of inputs with a value that is unknown until another resource exists."""
    return (name for name, value in inputs.items() if _holds_unknown(value))


def property_path(*keys: str | int) -> str:
    """Return the path of a nested property in the engine's syntax: ``claims["md:hot"].level``.

    Each key that is no plain name is quoted; only quotes are escaped (properties_path.go).
    """
    first, *rest = (f"[{key}]" if isinstance(key, int) else _accessor(key) for key in keys)
    return first.removeprefix(".") + "".join(rest)


def _accessor(key: str) -> str:
    if key.isidentifier() and key.isascii():
        return f".{key}"
    return '["{}"]'.format(key.replace('"', '\\"'))


def _plain(value: Value) -> Any:
    match value.WhichOneof("kind"):
        case "struct_value":
            fields = value.struct_value.fields
            return {name: _plain(fields[name]) for name in sorted(fields)}
        case "list_value":
            return [_plain(item) for item in value.list_value.values]
        case "string_value":
            return value.string_value
        case "number_value":
            number = value.number_value
            return int(number) if number.is_integer() else number
        case "bool_value":
            return value.bool_value
        case _:
            return None


def _holds_unknown(value: JSON) -> bool:
    match value:
        case Mapping():
            return any(map(_holds_unknown, value.values()))
        case list():
            return any(map(_holds_unknown, value))
        case _:
            return bool(value == rpc.UNKNOWN)
