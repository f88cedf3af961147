"""From a file and changes to values of a strict model, with all that is wrong in them told at once."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from workloads.errors import WorkloadError

M = TypeVar("M", bound=BaseModel)


class BadConfig(WorkloadError):
    """All that is wrong with one configuration, a line each."""

    def __init__(self, texts: Sequence[str]) -> None:
        Exception.__init__(self, "\n".join(texts))


def add_arguments(parser: argparse.ArgumentParser, example: str) -> None:
    """Let *parser* take what `settings` reads.

    Args:
        example: One or two changes, for the help.
    """
    parser.add_argument("--settings", type=Path, metavar="FILE.json", help="settings, as --print writes them")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="changes",
        help=f"a setting, such as {example}; may be given again",
    )  # fmt: skip
    parser.add_argument("--print", action="store_true", help="print all settings, and do nothing")


def settings(kind: type[M], args: argparse.Namespace) -> M:
    """Return the settings that were *args* on a command line.

    Raises:
        WorkloadError: they cannot be; says all that is wrong.
    """
    values = load_json(args.settings) if args.settings else kind().model_dump(mode="json")
    return apply_changes(kind, str(args.settings or "settings"), values, args.changes)


def load_json(path: Path) -> Any:
    """Return the JSON in the file *path*.

    Raises:
        WorkloadError: it cannot be read, or is none.
    """
    try:
        return json.loads(path.read_text())
    except OSError as error:
        raise WorkloadError(str(path), f"got {error.strerror}", "a run's file can be read", "Mend its path") from error
    except ValueError as error:
        fix = "Begin with what --print writes"
        raise WorkloadError(str(path), f"got {error}", "a run's file is JSON", fix) from error


def apply_changes(kind: type[M], what: str, values: Any, changes: Sequence[str]) -> M:
    """Return *values*, of which *what* says where they are from, with *changes* of the form ``key.key=value``.

    Raises:
        WorkloadError: they cannot be; says all that is wrong.
    """
    for change in changes:
        _apply_change(values, change)
    try:
        return kind.model_validate_json(json.dumps(values))
    except ValidationError as error:
        raise BadConfig([_format_problem(what, problem) for problem in error.errors()]) from None


def _apply_change(values: Any, change: str) -> None:
    """Set a value in *values*; it is JSON, or else a text."""
    key, equals, text = change.partition("=")
    if not equals:
        raise WorkloadError("--set", f"got {change}", "a change is KEY=VALUE", "Write it so, as in steps=100")
    *parents, last = key.split(".")
    place = values
    for name in parents:
        if isinstance(place, dict) and name in place and place[name] is None:
            place[name] = {}
        place = place.get(name) if isinstance(place, dict) else None
    if not isinstance(place, dict):
        raise WorkloadError("--set", f"got {key}", f"{'.'.join(parents)} has values by name", "See --print")
    try:
        place[last] = json.loads(text)
    except ValueError:
        place[last] = text


def _format_problem(what: str, problem: Any) -> str:
    where = ".".join(map(str, problem["loc"]))
    got = problem["input"] if isinstance(problem["input"], str | int | float | bool | None) else "another sort of value"
    want = problem["msg"][:1].lower() + problem["msg"][1:]
    fix = "Take it out" if problem["type"] == "extra_forbidden" else "Mend it there, or with --set"
    return f"{what}: {where or 'as a whole'}: got {got}; {want}. {fix}."
