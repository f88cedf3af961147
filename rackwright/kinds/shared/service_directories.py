"""The directories of a service in which rackwright alone writes: they have the declared files, and nothing else.

An undeclared file there may pass for a declared one, and one of an earlier declaration may be a key. A service searches
some of these directories for its programs.
"""

import posixpath
from collections.abc import Iterable, Iterator, Mapping, Sequence

from rackwright.core.contract import Command, Difference, Step, Want, Within
from rackwright.kinds.shared.service_account import ServiceFile

NAMES = "names"


def names(files: Iterable[ServiceFile], *tops: str) -> dict[str, Mapping[str, Want]]:
    """Return the names that may exist in each directory of *files* at or below *tops*, as properties, by path."""
    found: dict[str, set[str]] = {top: set() for top in tops}
    for file in files:
        path = file.path
        while path not in tops and path.startswith(tuple(f"{top}/" for top in tops)):
            folder, name = posixpath.split(path)
            found.setdefault(folder, set()).add(name)
            path = folder
    return {folder: {NAMES: Within(tuple(sorted(each)))} for folder, each in found.items()}


def is_names(item: Difference) -> bool:
    """Return whether *item* is about the names in a directory."""
    return item.thing.startswith("directory:") and item.name == NAMES


def remove_others(differences: Sequence[Difference]) -> Iterator[Step]:
    """Yield the step that removes the files and directories that the service does not declare."""
    paths = []
    for item in differences:
        if is_names(item) and isinstance(item.actual, tuple) and isinstance(item.want, Within):
            folder, allowed = item.thing.partition(":")[2], {*item.want.values, "", ".", ".."}
            paths += [f"{folder}/{name}" for name in map(str, item.actual) if name not in allowed and "/" not in name]
    if paths:
        yield Command(f"remove what is not declared: {', '.join(paths)}", ("rm", "-rf", "--", *paths))
