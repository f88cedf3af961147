"""Texts of fleets with characters that files of root, shells and terminals would read as their own."""

import copy
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rackwright.errors import DeclarationError
from rackwright.fleet import load_fleet
from rackwright.fleet.source import read
from rackwright.schema.problem import Keys
from tests.support.our_roles import ROLES
from tests.support.sources import ROOT

CONTROL = ("\n", "\r", "\t", "\x00", "\x1b", "\x7f", "\x85", "\u2028", "\u2029", "\u202e", "\u00a0", "\ufeff")
"""Characters that no text of one line has."""
QUOTES = (
    "'",
    '"',
    "`",
    "%",
    " ",
    "\\",
    "{",
    "}",
    ";",
    "$",
    "|",
    "&",
    "<",
    ">",
    "(",
    ")",
    "#",
    "*",
    "!",
    "^",
    ",",
    "~\n",
)
"""Characters that no address, network, host, endpoint or URL has, beside those above."""
FLEETS = tuple(
    path
    for path in sorted([*(ROOT / "tests/kinds").glob("*.yaml"), *(ROOT / "stacks").glob("[a-z]*.yaml")])
    if path.name != "documented.yaml"  # it has anchors
)
"""Valid fleets, which declare all kinds and roles."""
LINES = ("-----BEGIN ", "roles.container_runtime.definitions.app", "roles.container_runtime.definitions.requirements")
"""Beginnings and places of the texts that have several lines."""


def leaves(value: Any, keys: Keys = ()) -> Iterator[tuple[Keys, str]]:
    """Yield the place of each text in *value*, and the text."""
    if isinstance(value, str):
        yield keys, value
    items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from leaves(item, (*keys, key))


def has_lines(keys: Keys, text: str) -> bool:
    """Return whether the *text* at *keys* may have several lines."""
    path = ".".join(key for key in keys if isinstance(key, str))
    return text.startswith(LINES[0]) or path.endswith(LINES[1:])


def fleets_with(path: Path, insert: str) -> Iterator[tuple[Keys, dict[str, Any]]]:
    """Yield the fleet in *path* once for each of its texts of one line, with *insert* in the middle of that text."""
    data = read(path).data
    for keys, text in leaves(data):
        if not has_lines(keys, text):
            changed = part = copy.deepcopy(data)
            for key in keys[:-1]:
                part = part[key]
            half = len(text) // 2
            part[keys[-1]] = text[:half] + insert + text[half:]
            yield keys, changed


def refusal(path: Path, fleet: dict[str, Any]) -> DeclarationError | None:
    """Return the errors of *fleet* in the place of the file *path*; None if it is accepted."""
    try:
        load_fleet(path, ROLES, text=json.dumps(fleet))
    except DeclarationError as refused:
        return refused
    return None
