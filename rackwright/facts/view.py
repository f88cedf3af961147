"""How raw facts are read: one value at a time, and what is not there is not known."""

from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class NotKnown(Exception):
    """The facts cannot tell; the message says why."""


class View:
    """One mapping of the raw facts, read on demand."""

    def __init__(self, raw: Mapping[str, Any], where: str) -> None:
        self._raw, self._where = raw, where

    def read(self, key: str) -> Any:
        """Return the raw value under *key*, or raise NotKnown."""
        if key not in self._raw:
            raise NotKnown(f"the facts have no {self._where}.{key}")
        value = self._raw[key]
        if isinstance(value, dict) and value.keys() == {"unknown"}:
            raise NotKnown(f"{self._where}.{key}: {value['unknown']}")
        return value

    def find(self, key: str, name: str) -> Any:
        """Return what the table under *key* has for *name*, None where it has nothing, or raise NotKnown."""
        table = View(self.read(key), f"{self._where}.{key}")
        return table.read(name) if name in table._raw else None


class Fact(Generic[T]):
    """One value of a view, under its attribute's own name."""

    def __init__(self, convert: Callable[[Any], T], doc: str = "") -> None:
        self._convert, self.__doc__ = convert, doc

    def __set_name__(self, owner: type[View], name: str) -> None:
        self._key = name

    def __get__(self, view: View, owner: type[View]) -> T:
        value = view.read(self._key)
        try:
            return self._convert(value)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
            raise NotKnown(f"{view._where}.{self._key} is a {type(value).__name__} of another form") from None


def optional(value: Any) -> str | None:
    return None if value is None else str(value)


def optional_number(value: Any) -> int | None:
    return None if value is None else int(value)


def optional_float(value: Any) -> float | None:
    return None if value is None else float(value)


def optional_flag(value: Any) -> bool | None:
    return None if value is None else bool(value)


def texts(value: Any) -> tuple[str, ...]:
    return tuple(map(str, value))
