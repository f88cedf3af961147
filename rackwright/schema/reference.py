"""References in the variables of roles: a mapping with one key, ``{secret: NAME}`` or ``{tier: NAME}``, for a value."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rackwright.schema.problem import Keys


def name_of(value: Any, to: str) -> Any:
    """Return the name in ``{to: NAME}``, whatever was written there; None where *value* is no such reference."""
    return value[to] if isinstance(value, Mapping) and value.keys() == {to} else None


def references(value: Any, to: str, place: Keys = ()) -> Iterator[tuple[Keys, Any]]:
    """Yield each reference in *value*: where it stands, and the name in it."""
    if (name := name_of(value, to)) is not None:
        yield place, name
        return
    below: Any = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for key, part in below:
        yield from references(part, to, (*place, key))


def fill(value: Any, to: str, value_of: Callable[[str], Any]) -> Any:
    """Return *value* with what *value_of* gives for a name in the place of each reference."""
    if (name := name_of(value, to)) is not None:
        return value_of(str(name))
    match value:
        case Mapping():
            return {key: fill(part, to, value_of) for key, part in value.items()}
        case list():
            return [fill(part, to, value_of) for part in value]
        case _:
            return value
