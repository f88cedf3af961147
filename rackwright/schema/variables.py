"""The types of roles' variables, as the argument specifications of Ansible declare them."""

from collections.abc import Iterator, Mapping
from typing import Any

from rackwright.schema.problem import Keys, Problem, excerpt, hint

Options = Mapping[str, Mapping[str, Any]]
"""Argument specifications by name."""
TYPES: Mapping[str, tuple[tuple[type, ...], str, str]] = {
    "bool": ((bool,), "true or false", "Write one of these"),
    "dict": ((Mapping,), "a mapping", "Write it like {key: value}"),
    "float": ((int, float), "a number", "Write it like 0.5"),
    "int": ((int,), "a whole number", "Write it like 10"),
    "list": ((list, tuple), "a list", "Write it like [a, b]"),
    "raw": ((object,), "any value", "Write a value"),
    "str": ((str, int, float), "a text", "Write it in quotes"),
}
"""The Python types of each type of Ansible, and its name and a remedy in messages."""


def problems(options: Options, values: Mapping[str, Any], path: Keys = ()) -> Iterator[Problem]:
    """Yield the problems of *values*, each at its keys below *path*; a value None counts as missing."""
    for key, value in values.items():
        if key not in options:
            help = hint(key, options, "Remove it")
            yield Problem("got an unknown key", f"one of {', '.join(options)}", help, (*path, key))
        elif value is not None:
            yield from _value_problems(options[key], value, (*path, key))
    for key, option in options.items():
        if option.get("required") and values.get(key) is None:
            required = ", ".join(name for name, each in options.items() if each.get("required"))
            yield Problem(f"got no {key}", f"at least {required}", f"Add {key}", path)


def _value_problems(option: Mapping[str, Any], value: Any, path: Keys) -> Iterator[Problem]:
    types, expected, help = TYPES[option.get("type", "str")]
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types and object not in types):
        yield Problem(f"got {_format(value)}", expected, help, path)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _value_problems({**option, "type": option.get("elements", "raw")}, item, (*path, index))
    elif "choices" in option and value not in option["choices"]:
        choices = [str(choice) for choice in option["choices"]]
        help = hint(str(value), choices, "Write one of these")
        yield Problem(f"got {excerpt(value)}", f"one of {', '.join(choices)}", help, path)
    elif isinstance(value, Mapping) and "options" in option:
        yield from problems(option["options"], value, path)


def range_problems(ranges: Mapping[str, tuple[float, float]], values: Any, path: Keys = ()) -> Iterator[Problem]:
    """Yield the problems of the numbers in *values* that are outside of their range; values of other types have none.

    Args:
        ranges: Minimum and maximum by path without the indexes of lists: ``ntp_keys.id``.
    """
    if isinstance(values, Mapping):
        for key, value in values.items():
            yield from range_problems(ranges, value, (*path, key))
    elif isinstance(values, list | tuple):
        for index, value in enumerate(values):
            yield from range_problems(ranges, value, (*path, index))
    elif isinstance(values, int | float) and not isinstance(values, bool):
        limits = ranges.get(".".join(str(key) for key in path if not isinstance(key, int)))
        if limits and not limits[0] <= values <= limits[1]:
            expected = f"a number from {limits[0]} to {limits[1]}"
            yield Problem(f"got {excerpt(values)}", expected, "Write a number in this range", path)


def _format(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case Mapping():
            return "a mapping"
        case list() | tuple():
            return "a list"
        case _:
            return excerpt(value)
