"""Loading of a configuration file with changes, with one report of all errors."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from workloads.errors import Diagnostic, UserError

M = TypeVar("M", bound=BaseModel)


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
    """Return the settings of a command line.

    Raises:
        UserError: Settings are invalid; the message lists all errors.
    """
    values = load_json(args.settings) if args.settings else kind().model_dump(mode="json")
    return apply_changes(kind, str(args.settings or "settings"), values, args.changes)


def load_json(path: Path) -> Any:
    """Return the JSON in the file *path*.

    Raises:
        UserError: The file cannot be read, or is not JSON.
    """
    try:
        return json.loads(path.read_text())
    except OSError as error:
        raise UserError(
            Diagnostic(str(path), f"got {error.strerror}", "the file is readable", "Correct its path")
        ) from error
    except ValueError as error:
        fix = "Start from the output of --print"
        raise UserError(Diagnostic(str(path), f"got {error}", "the file is JSON", fix)) from error


def apply_changes(kind: type[M], source: str, values: Any, changes: Sequence[str]) -> M:
    """Return *values* with *changes* of the form ``key.key=value``, as a validated *kind*.

    Args:
        source: Origin of the values, for messages.

    Raises:
        UserError: Values or changes are invalid; the message lists all errors.
    """
    for change in changes:
        _apply_change(values, change)
    try:
        return kind.model_validate_json(json.dumps(values))
    except ValidationError as error:
        raise UserError(*(_diagnose(source, problem) for problem in error.errors())) from None


def _apply_change(values: Any, change: str) -> None:
    """Apply one change to *values*; its value is JSON, or else text."""
    key, equals, text = change.partition("=")
    if not equals:
        raise UserError(Diagnostic("--set", f"got {change}", "a change is KEY=VALUE", "Write it like steps=100"))
    *parents, last = key.split(".")
    place = values
    for name in parents:
        if isinstance(place, dict) and name in place and place[name] is None:
            place[name] = {}
        place = place.get(name) if isinstance(place, dict) else None
    if not isinstance(place, dict):
        raise UserError(Diagnostic("--set", f"got {key}", f"{'.'.join(parents)} has named values", "See --print"))
    try:
        place[last] = json.loads(text)
    except ValueError:
        place[last] = text


def _diagnose(source: str, problem: Any) -> Diagnostic:
    where = ".".join(map(str, problem["loc"]))
    got = problem["input"] if isinstance(problem["input"], str | int | float | bool | None) else "another type of value"
    want = problem["msg"][:1].lower() + problem["msg"][1:]
    fix = "Remove it" if problem["type"] == "extra_forbidden" else "Correct it there, or with --set"
    return Diagnostic(f"{source}: {where or 'as a whole'}", f"got {got}", want, fix)
