"""The walk through a record: each value meets the rule of its column, and nothing else passes."""

from collections.abc import Callable, Mapping
from typing import Any

from rackwright.masking.findings import UNNAMED, Findings
from rackwright.schema.masking import MaskedColumn

Record = dict[str, Any]
Visit = Callable[[str, MaskedColumn, Any, Record], Any]
"""Takes the path of a column, its rule, a value and the whole record; returns the new value."""


AMBIGUOUS = "keys that are not empty and have no dot and no []; a whole path as key beside no object of its name"
"""Expectation of keys by which two places of a record would have the same path."""
MISSING = object()
"""The value of a column that a record does not have."""


class Walker:
    """Walks through records by the rules of a policy."""

    def __init__(self, columns: Mapping[str, MaskedColumn], visit: Visit, findings: Findings) -> None:
        self._columns, self._visit, self._findings = columns, visit, findings
        self._above = {above for name in columns for above in _above(name)}
        """Paths of objects and lists that have a column below them."""

    def walk(self, record: Record, place: str) -> Record:
        """Return *record* with new values, without dropped columns. Columns without a rule are findings.

        Args:
            place: File and number of the record, for findings.
        """
        return self._object(record, "", "", record, place)

    def _object(self, value: Record, path: str, label: str, record: Record, place: str) -> Record:
        result = {}
        for number, (key, item) in enumerate(value.items(), 1):
            below = f"{path}.{key}" if path else key
            shown = below if below in self._above or below in self._columns else _position(label, number)
            if not _has_one_place(key, item, value, value is record):
                self._findings.add(below, AMBIGUOUS, place, _position(label, number))
                continue
            column = self._columns.get(below)
            if column is not None and column.rule == "drop":
                self._findings.has_known = True
                continue
            result[key] = self._value(item, below, shown, column, record, place)
        return result

    def _value(self, value: Any, path: str, label: str, column: MaskedColumn | None, record: Record, place: str) -> Any:
        if isinstance(value, dict) and (value or column is not None):
            if not value:
                return self._refuse(path, label, place)
            return self._object(value, path, label, record, place)
        if isinstance(value, list) and (value or column is not None):
            below = f"{path}[]"
            item_rule = self._columns.get(below)
            if not value or (item_rule is not None and item_rule.rule == "drop"):
                return []
            return [self._value(item, below, f"{label}[]", item_rule, record, place) for item in value]
        if column is not None:
            self._findings.has_known = True
            return value if value is None or value == "" else self._visit(path, column, value, record)
        if path in self._above and not value and not isinstance(value, bool | int | float | str):
            return value  # null or an empty list in the place of a list with columns
        return self._refuse(path, label, place)

    def _refuse(self, path: str, label: str, place: str) -> None:
        self._findings.add(path, UNNAMED, place, label)


def _position(label: str, number: int) -> str:
    """Return the label of key *number* of the object *label*: the key itself may be the name of a person."""
    return f"{label}, key {number}" if label else f"column {number}"


def value_at(record: Record, path: str, default: Any = None) -> Any:
    """Return the value of the column *path*, which is in no list; *default* if the record has none."""
    if path in record:
        return record[path]
    value: Any = record
    for key in path.split("."):
        if not isinstance(value, dict) or key not in value:
            return default
        value = value[key]
    return value


def _has_one_place(key: str, item: Any, parent: Record, is_top: bool) -> bool:
    """Return whether no other place of the record can have the path of *key*."""
    if key == "" or "[]" in key:
        return False
    return "." not in key or (is_top and not isinstance(item, dict | list) and key.partition(".")[0] not in parent)


def _above(name: str) -> list[str]:
    """Return the paths of the objects and lists above the column *name*."""
    found = []
    for index, sign in enumerate(name):
        if sign == "." or name.startswith("[]", index):
            found.append(name[:index])
            if sign == "[":
                found.append(name[: index + 2])
    return found
