"""The types of roles' variables, as the argument specifications of Ansible declare them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
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


def constraint_problems(constraints: Mapping[str, Any], values: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield the problems of *values* together; an empty value counts as missing.

    Raises:
        KeyError: a sort of constraint is unknown.
    """
    given = {name for name, value in values.items() if value is not None and value not in ("", [], {}, ())}
    for sort, rules in constraints.items():
        for rule in rules.items() if isinstance(rules, Mapping) else rules:
            yield from _RULES[sort](rule, given, values)


Given = set[str]
Values = Mapping[str, Any]


def _missing_problems(needing: str, needed: Sequence[str], given: Given, path: str) -> Iterator[Problem]:
    if missing := [name for name in needed if name not in given]:
        expected = f"{needing} needs {_join(needed)}"
        yield Problem(f"got {needing} without {_join(missing)}", expected, f"Declare {_join(missing)}", (path,))


def _required_by(rule: tuple[str, Sequence[str]], given: Given, values: Values) -> Iterator[Problem]:
    name, needed = rule
    if name in given:
        yield from _missing_problems(name, [needed] if isinstance(needed, str) else needed, given, name)


def _required_if(rule: Sequence[Any], given: Given, values: Values) -> Iterator[Problem]:
    name, value, needed = rule[:3]
    if name in given and values[name] == value:
        yield from _missing_problems(f"{name} {_format_plain(value)}", needed, given, name)


def _required_together(rule: Sequence[str], given: Given, values: Values) -> Iterator[Problem]:
    there, missing = [name for name in rule if name in given], [name for name in rule if name not in given]
    if there and missing:
        problem, expected = f"got {_join(there)} without {_join(missing)}", f"{_join(rule)} belong together"
        yield Problem(problem, expected, f"Declare {_join(missing)}, or remove {_join(there)}", (there[0],))


def _mutually_exclusive(rule: Sequence[str], given: Given, values: Values) -> Iterator[Problem]:
    there = [name for name in rule if name in given]
    if len(there) > 1:
        expected = f"one of {', '.join(rule)} at most"
        yield Problem(f"got {_join(there)}", expected, f"Remove {' or '.join(there[1:])}", (there[-1],))


def _required_one_of(rule: Sequence[str], given: Given, values: Values) -> Iterator[Problem]:
    if not given.intersection(rule):
        yield Problem(f"got no {' and no '.join(rule)}", f"one of {', '.join(rule)}", f"Declare {' or '.join(rule)}")


_RULES: Mapping[str, Callable[[Any, Given, Values], Iterator[Problem]]] = {
    "mutually_exclusive": _mutually_exclusive,
    "required_by": _required_by,
    "required_if": _required_if,
    "required_one_of": _required_one_of,
    "required_together": _required_together,
}
"""The check of each sort of constraints between variables, as Ansible's modules have them."""


def _join(names: Sequence[str]) -> str:
    return " and ".join((", ".join(names[:-1]), names[-1])) if len(names) > 1 else "".join(names)


def _format_plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
