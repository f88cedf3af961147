"""File and line of a message's value, for errors that are found after the fleet's file was read."""

import re
from collections.abc import Iterable
from pathlib import Path

from rackwright.errors import DeclarationError, DeclarationErrors
from rackwright.fleet.source import Source, read
from rackwright.schema.problem import Keys

PLACE = re.compile(r"(?:hosts|groups|runs|servers|key)(?:\.[\w-]+|\[[0-9]+\])*")
"""The way to a value, as messages write it: ``servers.digits.model.path``."""


def located(path: Path, errors: Iterable[DeclarationError]) -> DeclarationErrors:
    """Return *errors* with file and line before each that names a place of the fleet in *path*.

    Args:
        path: Empty for a fleet that stands in no file.
    """
    if path == Path():
        return DeclarationErrors(errors)
    source = read(path) if path.suffix == ".yaml" else None
    return DeclarationErrors(_located(path, source, error) for error in errors)


def _located(path: Path, source: Source | None, error: DeclarationError) -> DeclarationError:
    if not PLACE.fullmatch(error.where):
        return error
    keys: Keys = tuple(
        int(part[1:-1]) if part.startswith("[") else part for part in re.findall(r"[\w-]+|\[[0-9]+\]", error.where)
    )
    where = f"{path}:{source.line(keys) if source else 1}: {error.where}"
    return DeclarationError(where, error.got, error.want, error.fix, error.source)
