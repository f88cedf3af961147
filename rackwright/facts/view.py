"""How raw facts are read: one value at a time, and what is not there is not known."""

from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

T = TypeVar("T")
V = TypeVar("V", bound="View")
LARGEST = 1 << 64
"""No number that a probe writes is beyond this."""


class UnknownFact(Exception):
    """The facts cannot tell; the message says why."""


class View:
    """One mapping of the raw facts, read on demand."""

    def __init__(self, raw: Mapping[str, Any], where: str) -> None:
        """
        Raises:
            UnknownFact: *raw* is no mapping: a host may answer whatever it likes.
        """
        if not isinstance(raw, Mapping):
            raise malformed(where)
        self._raw, self._where = raw, where

    def read(self, key: str) -> Any:
        """Return the raw value under *key*, or raise UnknownFact."""
        if key not in self._raw:
            raise UnknownFact(f"the facts have no {self._where}.{key}")
        value = self._raw[key]
        if isinstance(value, dict) and value.keys() == {"unknown"}:
            raise UnknownFact(f"{self._where}.{key}: {value['unknown']}")
        return value

    def value(self, key: str, convert: Callable[[Any], T]) -> T:
        """Return the raw value under *key* as *convert* makes it, or raise UnknownFact."""
        raw = self.read(key)
        try:
            value = convert(raw)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
            raise malformed(f"{self._where}.{key}") from None
        if isinstance(value, int | float) and not -LARGEST <= value <= LARGEST:  # neither NaN nor infinite is
            raise malformed(f"{self._where}.{key}")
        return value

    def find(self, key: str, name: str, convert: Callable[[Any], Any] = lambda raw: raw) -> Any:
        """Return what the table under *key* has for *name*, None where it has nothing, or raise UnknownFact."""
        table = View(self.read(key), f"{self._where}.{key}")
        return table.value(name, convert) if name in table._raw else None

    def table(self, key: str) -> Mapping[str, Any]:
        """Return the mapping under *key*, or raise UnknownFact."""
        return View(self.read(key), f"{self._where}.{key}")._raw

    def rows(self, key: str, view: type[V], label: str = "") -> tuple[V, ...]:
        """Return the list of mappings under *key* as views, or raise UnknownFact.

        Args:
            label: What each of them is called by in reasons; empty for lists without names.
        """
        where = f"{self._where}.{key}".removeprefix("facts.")
        found = self.read(key)
        if not isinstance(found, list):
            raise malformed(where)
        return tuple(
            view(raw, f"{where}[{View(raw, where)._raw.get(label, '?')}]" if label else where) for raw in found
        )


class Fact(Generic[T]):
    """One value of a view, under its attribute's own name."""

    def __init__(self, convert: Callable[[Any], T], doc: str = "") -> None:
        self._convert, self.__doc__ = convert, doc

    def __set_name__(self, owner: type[View], name: str) -> None:
        self._key = name

    def __get__(self, view: View, owner: type[View]) -> T:
        return view.value(self._key, self._convert)


def malformed(where: str) -> UnknownFact:
    """Return why a value of another form than the probe writes is not known."""
    return UnknownFact(f"{where} has a value of another form than the probe writes")


def optional(value: Any) -> str | None:
    return None if value is None else str(value)


def optional_number(value: Any) -> int | None:
    return None if value is None else int(value)


def optional_float(value: Any) -> float | None:
    return None if value is None else float(value)


def optional_flag(value: Any) -> bool | None:
    return None if value is None else bool(value)


def texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple):
        raise TypeError("no list")
    return tuple(map(str, value))


def mapping(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise TypeError("no mapping")
    return value
