"""A changed text that knows where each of its characters stands in the original.

Neighbours that were copied are one piece, so that a text takes memory for its changes and not for its characters.
"""

from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from io import StringIO


def _numbers() -> "array[int]":
    return array("Q")


@dataclass(frozen=True)
class TextMap:
    """A text, and the place of each of its characters in the original."""

    text: str
    _at: "array[int]" = field(default_factory=_numbers)
    """The begin of each piece in the text."""
    _begin: "array[int]" = field(default_factory=_numbers)
    _end: "array[int]" = field(default_factory=_numbers)
    """Begin and end of each piece in the original."""
    _is_copied: bytearray = field(default_factory=bytearray)
    """Whether the characters of a piece stand one after another in the original; else each of them stands for all."""

    @staticmethod
    def whole(text: str, original: str) -> "TextMap":
        """Return *text*, each of whose characters stands for the one at its place in *original*."""
        result = TextMap(text)
        result._add(0, 0, len(original), True)
        return result

    def original(self, start: int, end: int) -> tuple[int, int]:
        """Return begin and end in the original of the part from *start* to *end*, which is not empty."""
        first, last = self._piece(start), self._piece(end - 1)
        begin = self._begin[first] + (start - self._at[first] if self._is_copied[first] else 0)
        return begin, self._begin[last] + end - self._at[last] if self._is_copied[last] else self._end[last]

    def replace(
        self, changes: Iterable[tuple[int, int, str]], copy: Callable[[str], str] = lambda text: text
    ) -> "TextMap":
        """Return the text with *changes*: begin, end and replacement of each, in their order.

        Args:
            copy: Changes the parts between them, and not their length.
        """
        text, result, place = StringIO(), TextMap(""), 0
        for start, end, replacement in changes:
            result._copy(self, place, start, text.tell())
            text.write(copy(self.text[place:start]))
            if replacement:
                result._add(text.tell(), *self.original(start, end), False)
                text.write(replacement)
            place = end
        result._copy(self, place, len(self.text), text.tell())
        text.write(copy(self.text[place:]))
        return TextMap(text.getvalue(), result._at, result._begin, result._end, result._is_copied)

    def _piece(self, index: int) -> int:
        return bisect_right(self._at, index) - 1

    def _add(self, at: int, begin: int, end: int, is_copied: bool) -> None:
        self._at.append(at)
        self._begin.append(begin)
        self._end.append(end)
        self._is_copied.append(is_copied)

    def _copy(self, other: "TextMap", start: int, end: int, at: int) -> None:
        """Add the pieces of *other* from *start* to *end*, which are the text from *at* on."""
        for piece, first, last in other._pieces(start, end):
            begin = other._begin[piece] + (first - other._at[piece] if other._is_copied[piece] else 0)
            after = begin + last - first if other._is_copied[piece] else other._end[piece]
            self._add(at + first - start, begin, after, bool(other._is_copied[piece]))

    def _pieces(self, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Yield each piece between *start* and *end*, and the part of it that is there."""
        piece = self._piece(start)
        while start < end:
            after = self._at[piece + 1] if piece + 1 < len(self._at) else len(self.text)
            yield piece, start, min(after, end)
            start, piece = min(after, end), piece + 1
