"""File and line for errors that a check finds after the fleet's file was read."""

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from rackwright.errors import DeclarationError, Diagnostic
from rackwright.fleet.source import Source, read
from rackwright.schema.problem import Keys

PLACE = re.compile(r"(?:hosts|groups|runs|servers|key)(?:\.[\w-]+|\[[0-9]+\])*")
"""Dotted keys of a value, as messages print them: ``servers.digits.model.path``."""


def locate_errors(path: Path, errors: Iterable[Diagnostic]) -> DeclarationError:
    """Return *errors*, with file and line before each error that names a value of the fleet in *path*.

    Args:
        path: The fleet's file; empty for a fleet without a file.
    """
    if path == Path():
        return DeclarationError(*errors)
    source = read(path) if path.suffix == ".yaml" else None
    return DeclarationError(*(_locate(path, source, error) for error in errors))


def _locate(path: Path, source: Source | None, error: Diagnostic) -> Diagnostic:
    if not PLACE.fullmatch(error.where):
        return error
    keys: Keys = tuple(
        int(part[1:-1]) if part.startswith("[") else part for part in re.findall(r"[\w-]+|\[[0-9]+\]", error.where)
    )
    where = f"{path}:{source.line(keys) if source else 1}: {error.where}"
    return replace(error, where=where)
