"""The edit of a fleet's file that adds lines under `allow:` and keeps all other text."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rackwright.errors import DeclarationError, Diagnostic
from rackwright.fleet.upgrade import edit
from rackwright.schema.allow import Allow

ALLOW = "allow"
BEFORE = ("profiles", "groups", "hosts")
"""Keys of a fleet before which a new list of lines stands."""


def add_lines(path: Path, lines: Iterable[Allow]) -> str:
    """Return the text of *path* with *lines* after the present ones.

    Raises:
        DeclarationError: the file is no YAML.
    """
    if path.suffix != ".yaml":
        problem = "rackwright cannot edit a fleet that is a program"
        raise DeclarationError(Diagnostic(str(path), problem, "a fleet in YAML", "Add the lines by hand"))
    new = [line.model_dump(exclude_defaults=True) for line in lines]

    def add(content: Any) -> None:
        if content.get(ALLOW):
            content[ALLOW].extend(new)
            return
        content.pop(ALLOW, None)
        places = [index for index, key in enumerate(content) if key in BEFORE]
        content.insert(min(places, default=len(content)), ALLOW, new)

    return edit(path.read_text(encoding="utf-8"), add)
