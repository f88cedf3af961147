"""Texts in one plain form for the recognisers, with the place of each character in the original."""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import replace

from rackwright.masking.decode import rounds
from rackwright.masking.text_map import TextMap

_FILLERS = frozenset("\u115f\u1160\u3164\uffa0\u2800")
"""Letters and signs that are shown as nothing."""
_CONTROL = re.compile(r"[\x00-\x09\x0b\x0c\x0e-\x1f\x7f]")
_UNSEEN = frozenset(("Cf", "Mn", "Me"))
"""Categories of characters without a width of their own."""


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


def fold(text: str) -> TextMap:
    """Return *text* in plain form, with its escapes as they are.

    It has ASCII digits, hyphens and blanks in the place of all others, and no invisible characters.
    """
    if text.isascii() and not _CONTROL.search(text):
        return TextMap.whole(text, text)
    return _fold(TextMap.whole(text, text))


def fold_decoded(text: str) -> Iterator[TextMap]:
    """Yield *text* in plain form after each round of decoding its escapes; nothing if it has none.

    All rounds count, and the text itself: signs that look like an escape may be a number that is written as such.
    """
    return map(_fold, rounds(text))


def _fold(text_map: TextMap) -> TextMap:
    plain = text_map.text.translate(_TABLE)
    if _CHANGE_LENGTH.isdisjoint(text_map.text):
        return replace(text_map, text=plain)
    changes = (
        (index, index + 1, _TABLE[ord(sign)]) for index, sign in enumerate(text_map.text) if sign in _CHANGE_LENGTH
    )
    return text_map.replace(changes, lambda part: part.translate(_TABLE))


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
