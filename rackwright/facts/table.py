"""Facts as text with an entry a line, which is decoded when it is read: a comparison reads few entries of many."""

import json
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from json.encoder import encode_basestring_ascii
from typing import Any

from rackwright.facts.view import malformed_value

LONG = 50
"""Number of entries from which a table has a line for each."""
BEFORE_TABLE, AFTER_TABLE, BETWEEN_ENTRIES = b"{\n ", b"\n}", b",\n "


class Table(Mapping[str, Any]):
    """A mapping whose entries are lines of JSON, and decoded when they are read."""

    def __init__(self, text: bytes, where: str) -> None:
        lines = text[len(BEFORE_TABLE) : -len(AFTER_TABLE)].split(BETWEEN_ENTRIES)
        self._lines = sorted(lines)  # `dump` has sorted them, which costs nothing here: a search relies on the order
        self._decoded: dict[str, Any] = {}
        self._where = where

    def __getitem__(self, key: str) -> Any:
        if key not in self._decoded:
            if (line := self._line(key)) is None:
                raise KeyError(key)
            self._decoded |= self._decode([line])
        return self._decoded[key]

    def __contains__(self, key: object) -> bool:
        return key in self._decoded or (isinstance(key, str) and self._line(key) is not None)

    def __iter__(self) -> Iterator[str]:
        if len(self._decoded) < len(self._lines):
            self._decoded = self._decode(self._lines)
        return iter(self._decoded)

    def __len__(self) -> int:
        return len(self._lines)

    def starting_with(self, prefix: str) -> list[str]:
        """Return the keys that start with *prefix*."""
        start = encode_basestring_ascii(prefix)[:-1].encode()
        first = last = bisect_left(self._lines, start)
        while last < len(self._lines) and self._lines[last].startswith(start):
            last += 1
        return [*self._decode(self._lines[first:last])]

    def without(self, text: bytes) -> Mapping[str, Any]:
        """Return the entries whose JSON does not have *text*."""
        return self._decode([line for line in self._lines if text not in line])

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
            decoded: dict[str, Any] = json.loads(b"{%s}" % b",".join(lines))
        except (ValueError, RecursionError):
            raise malformed_value(self._where) from None
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
    if not (text.startswith(b'{"') and text.endswith(b"}\n")):
        return json.loads(text)
    parts: list[bytes] = []
    tables: dict[str, Table] = {}
    for part in text[2:-2].split(b',\n"'):
        name, _, value = part.partition(b'":')
        if value.startswith(BEFORE_TABLE) and value.endswith(AFTER_TABLE):
            tables[name.decode()] = Table(value, f"facts.{name.decode()}")
        else:
            parts.append(part)
    try:
        return json.loads(b'{"%s}' % b',"'.join(parts)) | tables if parts else tables
    except ValueError:  # such as JSON in another layout
        return json.loads(text)


def plain(facts: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return *facts* with all tables decoded."""
    if not any(isinstance(part, Table) for part in facts.values()):
        return facts
    return {name: dict(part) if isinstance(part, Table) else part for name, part in facts.items()}
