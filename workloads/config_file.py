"""Loading of a configuration file with changes, with one report of all errors."""

import argparse
import json
import re
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from workloads.errors import Diagnostic, UserError

M = TypeVar("M", bound=BaseModel)
_KIND = re.compile(r"\w+\.kind=")
"""The beginning of a change of the kind of a part."""


def add_arguments(parser: argparse.ArgumentParser, example: str) -> None:
    """Add the options that `settings` reads to *parser*.

    Args:
        example: One or two changes, for the help text.
    """
    parser.add_argument("--settings", type=Path, metavar="FILE.json", help="file of settings that --print wrote")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="changes",
        help=f"a setting, such as {example}; repeatable",
    )  # fmt: skip
    parser.add_argument("--print", action="store_true", help="print all settings and exit")


def settings(kind: type[M], args: argparse.Namespace) -> M:
    """Return the settings of a command line; only those of the file and of the changes count as set.

    Raises:
        UserError: Settings are invalid; the message lists all errors.
    """
    values = load_json(args.settings) if args.settings else kind().model_dump(mode="json")
    settings = apply_changes(kind, str(args.settings or "settings"), values, args.changes)
    if args.settings:
        return settings
    changed = {change.partition("=")[0].partition(".")[0] for change in args.changes}
    return kind.model_validate_json(json.dumps({name: values[name] for name in changed}))


def load_json(path: Path) -> Any:
    """Return the JSON in the file *path*.

    Raises:
        UserError: The file cannot be read, or is not JSON.
    """
    try:
        return json.loads(path.read_text())
    except OSError as error:
        raise UserError(
            Diagnostic(str(path), f"the file cannot be read: {error.strerror}", help="Correct its path")
        ) from error
    except ValueError as error:
        problem, help = f"the file is not JSON: {error}", "Start from the output of --print"
        raise UserError(Diagnostic(str(path), problem, "JSON", help)) from error


def apply_changes(kind: type[M], source: str, values: Any, changes: Sequence[str]) -> M:
    """Return *values* with *changes* of the form ``key.key=value``, as a validated *kind*.

    Args:
        source: Origin of the values, for messages.

    Raises:
        UserError: Values or changes are invalid; the message lists all errors.
    """
    for change in sorted(changes, key=lambda change: not _KIND.match(change)):  # a kind before its keys
        _apply_change(kind, values, change)
    try:
        return kind.model_validate_json(json.dumps(values))
    except ValidationError as error:
        raise UserError(*(_diagnose(kind, source, values, problem) for problem in error.errors())) from None


def _apply_change(model: type[M], values: Any, change: str) -> None:
    """Apply one change to *values* of a *model*; its value is JSON, or else text.

    A part whose kind changes loses the keys of the kind before.
    """
    key, equals, text = change.partition("=")
    if not equals:
        raise UserError(Diagnostic("--set", f"{change!r} is not a change", "KEY=VALUE", "Write it like steps=100"))
    *parents, last = key.split(".")
    place = values
    for name in parents:
        if isinstance(place, dict) and name in place and place[name] is None:
            place[name] = {}
        place = place.get(name) if isinstance(place, dict) else None
    if not isinstance(place, dict):
        problem = f"there is no {'.'.join(parents)} with a value {last}"
        raise UserError(Diagnostic("--set", problem, "a key that --print lists", "Correct the key"))
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    if _KIND.match(change) and place.get("kind") != value and _has_kinds(model, parents[0]):
        place.clear()
    place[last] = value


def _has_kinds(model: type[BaseModel], key: str) -> bool:
    """Return whether *key* of *model* has values of several classes, one for each ``kind``."""
    return key in model.model_fields and bool(model.model_fields[key].discriminator)


def _keys(values: Any, location: Sequence[str | int]) -> Iterator[str]:
    """Yield the keys of *location* in *values*, without the kinds by which pydantic selects a part of a union."""
    for key in location:
        if isinstance(values, dict) and key not in values and values.get("kind") == key:
            continue
        yield str(key)
        if isinstance(values, dict):
            values = values.get(key)
        elif isinstance(values, list) and isinstance(key, int) and key < len(values):
            values = values[key]


def _diagnose(kind: type[BaseModel], source: str, values: Any, problem: Any) -> Diagnostic:
    where = ": ".join(filter(None, (source, ".".join(_keys(values, problem["loc"])))))
    if problem["type"] == "missing":
        return Diagnostic(where, "the key is missing", help="Write it there, or with --set")
    if problem["type"] == "extra_forbidden":
        near = get_close_matches(str(problem["loc"][-1]), _siblings(kind, values, problem["loc"]), 1)
        return Diagnostic(where, "there is no such key", help=f"Write {near[0]}" if near else "Remove it")
    value = problem["input"]
    is_plain = isinstance(value, str | int | float | bool | None)
    if problem["type"] == "value_error":  # of a validator of ours, whose text says all of it
        text, help = str(problem["ctx"]["error"]), "Correct it there, or with --set"
        return Diagnostic(where, f"got {value}", text, help) if is_plain else Diagnostic(where, text, help=help)
    shown = value if is_plain else "another type of value"
    expected = problem["msg"][:1].lower() + problem["msg"][1:]
    return Diagnostic(where, f"got {shown}", expected, "Correct it there, or with --set")


def _siblings(kind: type[BaseModel], values: Any, location: Sequence[str | int]) -> list[str]:
    """Return the keys that may stand in the place of the last one of *location* in *values*."""
    *parents, last = location
    for key in parents:
        if isinstance(values, list) and isinstance(key, int):
            values = values[key]
        elif isinstance(values, dict):
            values = values.get(key, values)  # pydantic's tag of a kind is no key
    known = [*values] if isinstance(values, dict) else []
    return [key for key in (*known, *(() if parents else kind.model_fields)) if key != last]
