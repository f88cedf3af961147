"""The base of all views over raw facts: each value is read on demand, and a missing value is unknown."""

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, Generic, TypeVar

T = TypeVar("T")
V = TypeVar("V", bound="View")
NUMBERS = (int, float)
MISSING = object()
LARGEST = 1 << 64
"""Bound of numbers in facts; the probe writes no larger one."""


class UnknownFact(Exception):
    """A value is unknown; the message says why."""


class View:
    """One mapping of the raw facts, read on demand."""

    def __init__(self, raw: Mapping[str, Any], where: str) -> None:
        """
        Raises:
            UnknownFact: *raw* is no mapping; a hostile host may send anything.
        """
        if type(raw) is not dict and not isinstance(raw, Mapping):  # the first question is ten times as fast
            raise malformed_value(where)
        self._raw, self._where = raw, where

    def has(self, key: str) -> bool:
        """Return whether there is a value under *key*, known or not; older probes wrote fewer."""
        return key in self._raw

    def read(self, key: str) -> Any:
        """Return the raw value under *key*, or raise UnknownFact."""
        value = self._raw.get(key, MISSING)
        if value is MISSING:
            raise UnknownFact(f"the facts have no {self._where}.{key}")
        if type(value) is dict and len(value) == 1 and "unknown" in value:
            raise UnknownFact(f"{self._where}.{key}: {value['unknown']}")
        return value

    def value(self, key: str, convert: Callable[[Any], T]) -> T:
        """Return the raw value under *key*, converted by *convert*, or raise UnknownFact."""
        raw = self.read(key)
        try:
            value = convert(raw)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
            raise malformed_value(f"{self._where}.{key}") from None
        if isinstance(value, NUMBERS) and not -LARGEST <= value <= LARGEST:  # neither NaN nor infinite is
            raise malformed_value(f"{self._where}.{key}")
        return value

    def find(self, key: str, name: str, convert: Callable[[Any], Any] = lambda raw: raw) -> Any:
        """Return the entry *name* of the table under *key*, None if there is none, or raise UnknownFact."""
        table = self._tables.get(key)
        if table is None:
            table = self._tables[key] = View(self.read(key), f"{self._where}.{key}")
        return None if table._raw.get(name, MISSING) is MISSING else table.value(name, convert)

    @cached_property
    def _tables(self) -> dict[str, "View"]:
        return {}

    def entry(self, key: str, name: str, view: type[V]) -> V | None:
        """Return the entry *name* of the table under *key* as a view, None if there is none, or raise UnknownFact."""
        raw = self.find(key, name)
        return None if raw is None else view(raw, f"{self._where}.{key}.{name}")

    def table(self, key: str) -> Mapping[str, Any]:
        """Return the mapping under *key*, or raise UnknownFact."""
        return View(self.read(key), f"{self._where}.{key}")._raw

    def rows(self, key: str, view: type[V], label: str = "") -> tuple[V, ...]:
        """Return the list of mappings under *key* as views, or raise UnknownFact.

        Args:
            label: Key whose value identifies a row in reasons; empty for lists without names.
        """
        where = f"{self._where}.{key}".removeprefix("facts.")
        raws = self.read(key)
        if not isinstance(raws, list):
            raise malformed_value(where)
        return tuple(view(raw, f"{where}[{View(raw, where)._raw.get(label, '?')}]" if label else where) for raw in raws)


class Fact(Generic[T]):
    """A value of a view, converted when it is first read; its key in the raw facts is the name of the attribute."""

    def __init__(self, convert: Callable[[Any], T], doc: str = "") -> None:
        self._convert, self.__doc__ = convert, doc

    def __set_name__(self, owner: type[View], name: str) -> None:
        self._key = name

    def __get__(self, view: View, owner: type[View]) -> T:
        value = view.__dict__[self._key] = view.value(self._key, self._convert)  # which the next read finds by itself
        return value


def malformed_value(where: str) -> UnknownFact:
    """Return the error for a value that no probe writes."""
    return UnknownFact(f"{where} has a value of another form than the probe writes")


def optional(value: Any) -> str | None:
    return None if value is None else str(value)


def optional_number(value: Any) -> int | None:
    return None if value is None else int(value)


def optional_mapping(value: Any) -> Mapping[str, Any] | None:
    return None if value is None else mapping(value)


def optional_float(value: Any) -> float | None:
    return None if value is None else float(value)


def optional_flag(value: Any) -> bool | None:
    return None if value is None else bool(value)


def texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple):
        raise TypeError("no list")
    return tuple(map(str, value))


def text_table(value: Any) -> Mapping[str, str]:
    """Return a table of texts."""
    return {str(name): _text(each) for name, each in mapping(value).items()}


def texts_table(value: Any) -> Mapping[str, tuple[str, ...]]:
    """Return a table of lists of texts."""
    return {str(name): texts(each) for name, each in mapping(value).items()}


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("no text")
    return value


def mapping(value: Any) -> Mapping[str, Any]:
    if type(value) is not dict and not isinstance(value, Mapping):
        raise TypeError("no mapping")
    return value
