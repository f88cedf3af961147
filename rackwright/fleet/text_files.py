"""Texts of a fleet that stand in files beside it: `{file: NAME}`, such as a certificate that several roles share."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from rackwright.errors import DeclarationError, Diagnostic
from rackwright.fleet.source import Source
from rackwright.foreign import InvalidData, read_bounded
from rackwright.foreign.paths import open_below
from rackwright.schema import reference
from rackwright.schema.problem import Keys, Problem, excerpt

FILE = "file"
BYTES_MAX = 64 << 10
"""Largest file. A certificate with its chain has about 6 KiB."""
_HOLDERS = (("groups", "*", "roles"), ("hosts", "*", "roles"), ("object_stores", "*"), ("clusters", "*", "api"))
"""Places below which a text may stand in a file."""


def with_text_files(source: Source) -> Source:
    """Return *source* with the texts of files in the place of references to them.

    Raises:
        DeclarationError: files that cannot be read, or are no texts.
    """
    errors: list[Diagnostic] = []
    data = source.data
    for holder in _HOLDERS:
        for keys in _places(source.data, holder):
            data = _set(data, keys, lambda value, keys=keys: _fill(source, value, keys, errors))
    if errors:
        raise DeclarationError(*errors)
    return source if data is source.data else replace(source, data=data)


def _places(data: Any, pattern: Keys, place: Keys = ()) -> Iterator[Keys]:
    """Yield the keys of the mappings in *data* at *pattern*, in which ``*`` stands for any key."""
    if not isinstance(data, dict):
        return
    if not pattern:
        yield place
        return
    for key in data if pattern[0] == "*" else (pattern[0],):
        if key in data:
            yield from _places(data[key], pattern[1:], (*place, key))


def _set(data: Any, keys: Keys, change: Any) -> Any:
    """Return *data* with the result of *change* for the value at *keys*; *data* itself if that value stays the same."""
    before = data[keys[0]] if keys else data
    after = _set(before, keys[1:], change) if keys else change(data)
    if after is before:
        return data
    return {**data, keys[0]: after} if keys else after


def _fill(source: Source, value: Any, keys: Keys, errors: list[Diagnostic]) -> Any:
    found = [(place, name) for place, name in reference.references(value, FILE) if isinstance(name, str) and place]
    for place, name in found:
        problem = None
        try:
            text = _read(source, name)
        except InvalidData as error:
            problem = f"got {excerpt(name)}, which is no text beside the fleet: {error}"
        except OSError as error:
            problem = f"got {excerpt(name)}, which cannot be read: {error.strerror}"
        if problem is None:
            value = _set_at(value, place, text)
        else:
            expected = f"a file below the folder of {source.path.name}"
            errors.append(
                source.error(Problem(problem, expected, "Correct the name, or write the file"), (*keys, *place))
            )
    return value


def _set_at(value: Any, place: Keys, text: str) -> Any:
    key, *rest = place
    below = _set_at(value[key], tuple(rest), text) if rest else text
    if isinstance(value, list):
        return [below if index == key else item for index, item in enumerate(value)]
    return {**value, key: below}


def _read(source: Source, name: str) -> str:
    """Return the text of the file *name*, without the end of its line if it has only one.

    Raises:
        InvalidData: it is no text, too long, no regular file, or outside of the folder of the fleet.
        OSError: it cannot be read.
    """
    with open_below(source.path.parent, name) as file:
        content = read_bounded(file, BYTES_MAX)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidData("it is not UTF-8") from None
    return text.rstrip("\n") if text.count("\n") == 1 else text
