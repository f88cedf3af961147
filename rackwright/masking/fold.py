"""Texts in one plain form for the recognisers, with the place of each character in the original."""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from rackwright.masking.decode import Sign, rounds

_FILLERS = frozenset("\u115f\u1160\u3164\uffa0\u2800")
"""Letters and signs that are shown as nothing."""
_CONTROL = re.compile(r"[\x00-\x09\x0b\x0c\x0e-\x1f\x7f]")
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
    """Return *text* in plain form, with its escapes as they are."""
    if text.isascii() and not _CONTROL.search(text):
        return PlainText(text, None)
    plain = text.translate(_TABLE)
    if _CHANGE_LENGTH.isdisjoint(text):
        return PlainText(plain, None)
    return _with_places((index, index + 1, sign) for index, sign in enumerate(text))


def fold_decoded(text: str) -> Iterator[PlainText]:
    """Yield *text* in plain form after each round of decoding its escapes; nothing if it has none.

    All rounds count, and the text itself: signs that look like an escape may be a number that is written as such.
    """
    for signs in rounds(text):
        yield _with_places(signs)


def _with_places(found: Iterable[Sign]) -> PlainText:
    signs: list[str] = []
    places: list[tuple[int, int]] = []
    for start, end, sign in found:
        for each in _TABLE[ord(sign)]:
            signs.append(each)
            places.append((start, end))
    return PlainText("".join(signs), places)


def _plain(sign: str) -> str:
    category = unicodedata.category(sign)
    if "\U000e0020" <= sign <= "\U000e007e":
        return chr(ord(sign) - 0xE0000)  # a tag
    if category in _UNSEEN or sign in _FILLERS:
        return ""
    if category == "Nd":
        return str(unicodedata.decimal(sign))
    if category == "No" and (digit := unicodedata.digit(sign, None)) is not None:
        return str(digit)  # in a circle, as an exponent
    if category == "Cc":
        return sign if sign in "\n\r" else " "
    if category in ("Zl", "Zp"):
        return "\n"
    if category == "Pd" or sign == "\u2212":
        return "-"
    if category == "Zs":
        return " "
    whole = unicodedata.normalize("NFKC", sign)
    return whole if whole == sign else "".join(_plain(each) if each != sign else each for each in whole)
