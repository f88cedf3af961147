"""Facts as text with an entry a line, which is decoded when it is read: a comparison reads few entries of many."""

import json
import re
from bisect import bisect_left
from collections import deque
from collections.abc import ItemsView, Iterator, Mapping
from json.encoder import encode_basestring_ascii
from typing import Any

from rackwright.facts.view import malformed_value
from rackwright.foreign import parse_json, parse_object

TEXT_BYTES, DEPTH, VALUES = 512 << 20, 32, 20_000_000
"""Maximum size, levels and number of values of the facts in a snapshot, those of a large cluster included."""
LONG = 50
"""Number of entries from which a table has a line for each."""
BEFORE_TABLE, AFTER_TABLE, BETWEEN_ENTRIES = b'":{\n ', b"\n}", b",\n "
MISSING = object()
"""The value in the place of an entry that a table does not have."""
UNSEEN = object()


class Table(Mapping[str, Any]):
    """A mapping whose entries are lines of JSON, and decoded when they are read."""

    def __init__(self, text: bytes, where: str) -> None:
        self.text, self.where = text, where
        self._lines = sorted(text.split(BETWEEN_ENTRIES))  # `dump` has sorted them: a search relies on the order
        self._read: dict[str, Any] = {}
        """Values that were read one by one; MISSING for keys without an entry."""
        self._all: dict[str, Any] = {}
        """All entries, once they are decoded."""

    def __getitem__(self, key: str) -> Any:
        if (value := self.get(key, MISSING)) is MISSING:
            raise KeyError(key)
        return value

    def get(self, key: str, default: Any = None) -> Any:
        """Return the entry *key*; *default* if there is none.

        Raises:
            UnknownFact: Its line is damaged.
        """
        value = self._read.get(key, UNSEEN)
        if value is UNSEEN:
            line = self._line(key)
            value = self._read[key] = MISSING if line is None else self._decode([line])[key]
        return default if value is MISSING else value

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and (self._read.get(key, MISSING) is not MISSING or self._line(key) is not None)

    def __iter__(self) -> Iterator[str]:
        if not self._all:
            self._all = self._decode(self._lines)
        return iter(self._all)

    def items(self) -> ItemsView[str, Any]:
        """Return all entries."""
        iter(self)
        return self._all.items()

    def __len__(self) -> int:
        return len(self._lines)

    def starting_with(self, prefix: str) -> list[str]:
        """Return the keys that start with *prefix*."""
        start = encode_basestring_ascii(prefix)[:-1].encode()
        first = last = bisect_left(self._lines, start)
        while last < len(self._lines) and self._lines[last].startswith(start):
            last += 1
        return [*self._decode(self._lines[first:last])]

    def without(self, pattern: re.Pattern[bytes]) -> Mapping[str, Any]:
        """Return the entries whose JSON does not have *pattern*."""
        search = pattern.search
        return self._decode([line for line in self._lines if not search(line)])

    def _line(self, key: str) -> bytes | None:
        start = f"{encode_basestring_ascii(key)}:".encode()
        index = bisect_left(self._lines, start)
        return self._lines[index] if index < len(self._lines) and self._lines[index].startswith(start) else None

    def _decode(self, lines: list[bytes]) -> dict[str, Any]:
        """Return the entries in *lines*.

        Raises:
            UnknownFact: A line is damaged.
        """
        try:
            decoded = parse_object(b"{%s}" % b",".join(lines), TEXT_BYTES, DEPTH, VALUES, lenient=True, finite=True)
        except ValueError:
            raise malformed_value(self.where) from None
        return decoded


def keys_starting_with(table: Mapping[str, Any], *prefixes: str) -> list[str]:
    """Return the keys of *table* that start with one of *prefixes*, of which none starts with another one."""
    if isinstance(table, Table):
        return [key for prefix in prefixes for key in table.starting_with(prefix)]
    return [key for key in table if key.startswith(prefixes)]


def dump(facts: Mapping[str, Any]) -> str:
    """Return *facts* as JSON with a line for each part, and for each entry of a long table."""
    parts = (f"{_dump(name)}:{_dump_part(value)}" for name, value in sorted(facts.items()))
    return "{" + ",\n".join(parts) + "}\n"


def _dump_part(value: Any) -> str:
    if not isinstance(value, Mapping) or len(value) < LONG:
        return _dump(value)
    return "{\n " + ",\n ".join(sorted(f"{_dump(key)}:{_dump(each)}" for key, each in value.items())) + "\n}"


def _dump(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def parse(text: bytes) -> Any:
    """Return the value of the JSON *text*; long tables in the form of `dump` are not decoded yet.

    Raises:
        ValueError: *text* is not JSON.
    """
    tables: dict[str, Table] = {}
    rest: list[bytes] = []  # the text with a null in the place of each table
    copied = line = 0
    while (end := text.find(b"\n", line)) >= 0:
        name = text[line:end].lstrip(b"{")[1:-3]
        if text.startswith(BEFORE_TABLE, end - 3) and b'"' not in name:
            after = text.find(AFTER_TABLE, end)
            if after < 0:
                return _parse(text)
            tables[name.decode()] = _table(text[end + 2 : after], f"facts.{name.decode()}")
            rest += text[copied : end - 1], b"null"
            copied = line = after + len(AFTER_TABLE)
            end = text.find(b"\n", line)
            if end < 0:
                break
        line = end + 1
    if not tables:
        return _parse(text)
    try:
        parsed = _parse(b"".join((*rest, text[copied:])))
    except ValueError:  # such as JSON in another layout
        return _parse(text)
    if not isinstance(parsed, dict) or any(parsed.get(name, MISSING) is not None for name in tables):
        return _parse(text)  # a table stands within another value
    return parsed | tables


def _parse(text: bytes) -> Any:
    return parse_json(text, TEXT_BYTES, DEPTH, VALUES, lenient=True, finite=True)


_recent: deque[Table] = deque(maxlen=8)
"""The tables that were parsed last: hosts with equal packages share a table, and each entry that was read of it."""


def _table(text: bytes, where: str) -> Table:
    for table in tuple(_recent):
        if table.text == text and table.where == where:
            return table
    _recent.append(table := Table(text, where))
    return table


def plain(facts: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return *facts* with all tables decoded."""
    if not any(isinstance(part, Table) for part in facts.values()):
        return facts
    # by its items: dict() of a mapping reads each key by itself, which decodes each line of the table once more
    return {name: dict(part.items()) if isinstance(part, Table) else part for name, part in facts.items()}
