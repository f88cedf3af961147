"""References in the variables of roles, which replace a value: ``{secret: NAME}`` or ``{tier: NAME}``."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rackwright.schema.problem import Keys


def name_of(value: Any, to: str) -> Any:
    """Return NAME of ``{to: NAME}``, of any type; None if *value* is no such reference."""
    return value[to] if isinstance(value, Mapping) and value.keys() == {to} else None


def references(value: Any, to: str, place: Keys = ()) -> Iterator[tuple[Keys, Any]]:
    """Yield the keys and the name of each reference in *value*."""
    if (name := name_of(value, to)) is not None:
        yield place, name
        return
    below: Any = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for key, part in below:
        yield from references(part, to, (*place, key))


def fill(value: Any, to: str, value_of: Callable[[str], Any]) -> Any:
    """Return *value* with each reference replaced by the result of *value_of* for its name."""
    if (name := name_of(value, to)) is not None:
        return value_of(str(name))
    match value:
        case Mapping():
            return {key: fill(part, to, value_of) for key, part in value.items()}
        case list():
            return [fill(part, to, value_of) for part in value]
        case _:
            return value
