"""Texts in one plain form for the recognisers, with the place of each character in the original."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

_ESCAPE = re.compile(
    r"\\u([0-9a-fA-F]{4})|\\x([0-9a-fA-F]{2})|%([2-7][0-9a-fA-F])|&#([0-9]{1,6});|&#[xX]([0-9a-fA-F]{1,5});"
)
"""A character that is written by its number, as in JSON within a text, in URLs and in HTML."""
_FILLERS = frozenset("\u115f\u1160\u3164\uffa0\u2800")
"""Letters and signs that are shown as nothing."""
_UNSEEN = frozenset(("Cf", "Mn", "Me"))
"""Categories of characters without a width of their own."""


@dataclass(frozen=True)
class PlainText:
    """A text in plain form."""

    text: str
    """The text with ASCII digits, hyphens and blanks in the place of all others, without invisible characters."""
    _places: Sequence[tuple[int, int]] | None
    """Begin and end of each character in the original; None if they are those of the text."""

    def original(self, start: int, end: int) -> tuple[int, int]:
        """Return begin and end in the original of the part from *start* to *end*, which is not empty."""
        if self._places is None:
            return start, end
        return self._places[start][0], self._places[end - 1][1]


class _Table(dict[int, str]):
    """The plain form of each character, by its code point."""

    def __missing__(self, code: int) -> str:
        plain = _plain(chr(code))
        self[code] = plain
        if len(plain) != 1:
            _CHANGE_LENGTH.add(chr(code))
        return plain


_CHANGE_LENGTH: set[str] = set()
"""Characters seen so far whose plain form is no single character."""
_TABLE = _Table()


def fold(text: str) -> PlainText:
    """Return *text* in plain form."""
    has_escapes = ("\\" in text or "%" in text or "&#" in text) and _ESCAPE.search(text) is not None
    if not has_escapes:
        if text.isascii():
            return PlainText(text, None)
        plain = text.translate(_TABLE)
        if _CHANGE_LENGTH.isdisjoint(text):
            return PlainText(plain, None)
    return _fold_with_places(text)


def _fold_with_places(text: str) -> PlainText:
    signs: list[str] = []
    places: list[tuple[int, int]] = []
    for start, end, sign in _signs(text):
        for each in _TABLE[ord(sign)]:
            signs.append(each)
            places.append((start, end))
    return PlainText("".join(signs), places)


def _signs(text: str) -> list[tuple[int, int, str]]:
    """Return begin, end and character of each sign of *text*; an escape is one sign."""
    found, place = [], 0
    for match in _ESCAPE.finditer(text):
        found += [(index, index + 1, text[index]) for index in range(place, match.start())]
        *hexadecimal, decimal, last = match.group(1, 2, 3, 4, 5)
        code = int(decimal) if decimal else int(next(each for each in (*hexadecimal, last) if each), 16)
        found.append((match.start(), match.end(), chr(min(code, 0x10FFFF))))
        place = match.end()
    return found + [(index, index + 1, text[index]) for index in range(place, len(text))]


def _plain(sign: str) -> str:
    category = unicodedata.category(sign)
    if category in _UNSEEN or sign in _FILLERS:
        return ""
    if category == "Nd":
        return str(unicodedata.decimal(sign))
    if category == "Pd" or sign == "\u2212":
        return "-"
    if category == "Zs":
        return " "
    whole = unicodedata.normalize("NFKC", sign)
    return whole if whole == sign else "".join(_plain(each) if each != sign else each for each in whole)
