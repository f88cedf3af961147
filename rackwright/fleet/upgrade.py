"""The version of a fleet file's schema, and the migrations of files with an earlier version; their comments stay."""

import io
import re
from collections.abc import Callable
from typing import Any

from rackwright.errors import DeclarationError
from rackwright.fleet.source import Source
from rackwright.schema.base import Schema
from rackwright.schema.problem import Problem

KEY = "schema_version"
FIRST = 1
"""Version of a file that names none."""
Migration = Callable[[Any], None]
MIGRATIONS: tuple[Migration, ...] = ()
"""Functions that change the content of a file, a mapping of ruamel.yaml, from version N to N + 1; the first is for 1.

A change of the schema that makes files of the present version wrong, such as another name of a key, adds one.
"""
_FLUSH_LIST = re.compile(r"^( *)[\w.-]+:[^\S\n]*(#.*)?\n\1- ", re.MULTILINE)
"""A list whose items are not indented below their key."""
SCHEMA_VERSION = FIRST + len(MIGRATIONS)


class FleetHead(Schema):
    """The keys that every fleet file has."""

    schema_version: int = SCHEMA_VERSION
    """Version of the schema that the file follows; `rackwright upgrade --write` migrates files of an earlier one."""


def check(source: Source) -> None:
    """Raise if the file *source* has another version of the schema.

    Raises:
        DeclarationError: the error has the command that migrates the file.
    """
    version = source.data.get(KEY, FIRST)
    is_number = type(version) is int  # which true is not
    if is_number and version == SCHEMA_VERSION:
        return
    expected, help = f"version {SCHEMA_VERSION}", "Run `rackwright upgrade --check`, then `rackwright upgrade --write`"
    if not is_number or version < FIRST:
        help = f"Write `{KEY}: {SCHEMA_VERSION}`, or remove the line"
    elif version > SCHEMA_VERSION:
        help = "Install the version of rackwright that wrote the file, or a newer one"
    raise DeclarationError(source.error(Problem(f"got schema version {version!r}", expected, help), (KEY,)))


def upgrade(source: Source) -> str:
    """Return the text of the file *source* in SCHEMA_VERSION; the same text if it has this version.

    Raises:
        DeclarationError: the version is none that this rackwright can migrate.
    """
    version, text = source.data.get(KEY, FIRST), source.path.read_text(encoding="utf-8")
    if type(version) is not int or not FIRST <= version < SCHEMA_VERSION:
        check(source)
        return text
    return edit(text, lambda content: _migrate(content, version))


def _migrate(content: Any, version: int) -> None:
    for migration in MIGRATIONS[version - FIRST :]:
        migration(content)
    content.pop(KEY, None)
    content.insert(list(content).index("fleet") + 1 if "fleet" in content else 0, KEY, SCHEMA_VERSION)


def edit(text: str, change: Callable[[Any], None]) -> str:
    """Return *text* of a YAML file after *change* of its content; the same text if nothing changed.

    Comments, the order of keys and the style of each value stay.
    """
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 1 << 20
    offset = 0 if _FLUSH_LIST.search(text) else 2
    yaml.indent(mapping=2, sequence=2 + offset, offset=offset)
    content, before = yaml.load(text), yaml.load(text)
    change(content)
    if content == before:
        return text
    stream = io.StringIO()
    yaml.dump(content, stream)
    return stream.getvalue()


def rename(content: Any, old: str, new: str) -> None:
    """Rename the key *old* of *content*, a mapping of ruamel.yaml, to *new*, in its place and with its comment."""
    if old in content:
        position, value = list(content).index(old), content[old]
        comments = content.ca.items.pop(old, None)
        del content[old]
        content.insert(position, new, value)
        if comments is not None:
            content.ca.items[new] = comments
