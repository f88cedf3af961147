"""The walk through a record: each value meets the rule of its column, and nothing else passes."""

from collections.abc import Callable, Mapping
from typing import Any

from rackwright.masking.findings import UNNAMED, Findings
from rackwright.schema.masking import MaskedColumn

Record = dict[str, Any]
Visit = Callable[[str, MaskedColumn, Any, Record], Any]
"""Takes the path of a column, its rule, a value and the whole record; returns the new value."""


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
        return self._object(record, "", record, place)

    def _object(self, value: Record, path: str, record: Record, place: str) -> Record:
        result = {}
        for key, item in value.items():
            below = f"{path}.{key}" if path else key
            column = self._columns.get(below)
            if column is not None and column.rule == "drop":
                self._findings.has_known = True
                continue
            result[key] = self._value(item, below, column, record, place)
        return result

    def _value(self, value: Any, path: str, column: MaskedColumn | None, record: Record, place: str) -> Any:
        if isinstance(value, dict) and (value or column is not None):
            return self._object(value, path, record, place) if value else self._refuse(path, place)
        if isinstance(value, list) and (value or column is not None):
            below = f"{path}[]"
            item_rule = self._columns.get(below)
            if not value or (item_rule is not None and item_rule.rule == "drop"):
                return []
            return [self._value(item, below, item_rule, record, place) for item in value]
        if column is not None:
            self._findings.has_known = True
            return value if value is None or value == "" else self._visit(path, column, value, record)
        if path in self._above and not value and not isinstance(value, bool | int | float | str):
            return value  # null or an empty list in the place of a list with columns
        return self._refuse(path, place)

    def _refuse(self, path: str, place: str) -> None:
        self._findings.add(path, UNNAMED, place)


def value_at(record: Record, path: str) -> Any:
    """Return the value of the column *path*, which is in no list; None if the record has none."""
    if path in record:
        return record[path]
    value: Any = record
    for key in path.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _above(name: str) -> list[str]:
    """Return the paths of the objects and lists above the column *name*."""
    found = []
    for index, sign in enumerate(name):
        if sign == "." or name.startswith("[]", index):
            found.append(name[:index])
            if sign == "[":
                found.append(name[: index + 2])
    return found
