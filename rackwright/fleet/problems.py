"""The translation of pydantic's errors into problems."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel

from rackwright.schema.problem import Keys, Problem, Problems, hint

Detail = Mapping[str, Any]
"""An item of ``ValidationError.errors()``."""
ValueFormatter = Callable[[Keys, Any], str]
TYPE_NAMES = {
    "string_type": "a text",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "tuple_type": "a list",
}
TYPE_FIXES = {
    "string_type": "Write a text",
    "bool_type": "Write true or false",
    "int_type": "Write it in digits",
    "dict_type": "Write its keys below it",
    "model_type": "Write its keys below it",
    "tuple_type": "Write its items below it",
}
UNKNOWN_KEY_HELP = "Remove it, or take a key that `rackwright schema` lists under {}"
LIMITS = {
    "greater_than_equal": "it is {ge} or more",
    "less_than_equal": "it is {le} or less",
    "string_too_short": "its length is {min_length} or more",
    "string_too_long": "its length is {max_length} or less",
}


def format_value(keys: Keys, value: Any) -> str:
    """Return *value* as a message prints it."""
    match value:
        case None:
            return "nothing"
        case Mapping():
            return "a mapping"
        case list() | tuple():
            return "a list"
        case bool():
            return str(value).lower()
    return repr(value)


def problems_of(
    model: type[BaseModel],
    details: Iterable[Detail],
    format_input: ValueFormatter = format_value,
    unknown_key_help: str = UNKNOWN_KEY_HELP,
) -> Iterator[tuple[Problem, Keys]]:
    """Yield each problem that pydantic reports about a *model*, and the keys of the value below it.

    Args:
        format_input: Returns the value at these keys as a message prints it.
        unknown_key_help: The help for a key that is similar to none; ``{}`` stands for the name of its model.
    """
    for detail in details:
        keys = keys_of(detail)
        cause = detail.get("ctx", {}).get("error")
        if isinstance(cause, Problems | Problem):
            for problem in cause.problems if isinstance(cause, Problems) else (cause,):
                yield problem, keys
        else:
            yield _problem(model, detail, keys, format_input(keys, detail["input"]), unknown_key_help)


def keys_of(detail: Detail) -> Keys:
    """Return the keys of the value that *detail* is about; a wrong key has the keys of its value."""
    return tuple(key for key in detail["loc"] if key != "[key]")


def _problem(
    model: type[BaseModel], detail: Detail, keys: Keys, value: str, unknown_key_help: str
) -> tuple[Problem, Keys]:
    kind = detail["type"]
    if kind == "missing":
        return Problem(f"got no {keys[-1]}", f"{keys[-1]} is required here", f"Add {keys[-1]}"), keys[:-1]
    if kind == "extra_forbidden":
        owner = _model_at(model, keys[:-1])
        known = [field.alias or name for name, field in owner.model_fields.items()]
        help = hint(str(keys[-1]), known, unknown_key_help.format(owner.__name__))
        return Problem("got an unknown key", f"a key of {owner.__name__}", help), keys
    if kind == "literal_error":
        allowed = [word.strip("' ") for word in detail["ctx"]["expected"].replace(" or ", ",").split(",")]
        near = {_letters(word): f"Write {word}" for word in allowed}.get(_letters(str(detail["input"])))
        if len(allowed) == 1:
            help = f"Write {allowed[0]}, or leave {keys[-1]} out"
            return Problem(f"got {value}", f"the only value is {allowed[0]}", help), keys
        return Problem(f"got {value}", f"it is one of {', '.join(allowed)}", near or "Take one of these"), keys
    if kind in TYPE_NAMES:
        return Problem(f"got {value}", f"it is {TYPE_NAMES[kind]}", _suggest_form(kind, detail["input"], value)), keys
    expected = LIMITS[kind].format(**detail["ctx"]) if kind in LIMITS else str(detail["msg"])
    return Problem(f"got {value}", expected, "Correct it"), keys


def _suggest_form(kind: str, value: Any, text: str) -> str:
    """Return how to write *value*, which has the wrong type, as a value of *kind*; *text* is its present form."""
    if kind == "string_type" and isinstance(value, int | float):
        return f'Put it in quotes: "{text}"'
    if kind == "int_type" and isinstance(value, str) and value.isdecimal():
        return f"Write {value} without quotes"
    if kind == "bool_type" and isinstance(value, str) and value.lower() in ("yes", "on", "true", "no", "off", "false"):
        return f"Write {'true' if value.lower() in ('yes', 'on', 'true') else 'false'}"
    if kind == "tuple_type" and isinstance(value, str | int | float):
        return f"Write [{value}]"
    return TYPE_FIXES[kind]


def _letters(word: str) -> str:
    """Return the letters and digits of *word* for comparison: raid-10 equals raid10, but raid7 does not equal raid6."""
    return re.sub(r"[\W_]", "", word.lower())


def _model_at(shape: Any, keys: Keys) -> type[BaseModel]:
    """Return the model at *keys* below the type *shape*."""
    for key in keys:
        shape = _child(shape, key)
    assert isinstance(shape, type) and issubclass(shape, BaseModel)  # only a model has unknown keys
    return shape


def _child(shape: Any, key: str | int) -> Any:
    if isinstance(shape, type) and issubclass(shape, BaseModel):
        return _unwrap(
            next(field.annotation for name, field in shape.model_fields.items() if key in (field.alias, name))
        )
    arguments = get_args(shape)
    return _unwrap(arguments[1] if get_origin(shape) is dict else arguments[0]) if arguments else None


def _unwrap(shape: Any) -> Any:
    """Return the type *shape* without Annotated and without ``| None``."""
    while get_origin(shape) is Annotated:
        shape = get_args(shape)[0]
    arguments = [argument for argument in get_args(shape) if argument is not type(None)]
    return arguments[0] if get_origin(shape) not in (dict, tuple, None) and len(arguments) == 1 else shape
