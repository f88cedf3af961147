"""Recognisers of identifiers in free text: each hit has its place in the original text and its kind."""

import re
import string
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise

from rackwright.masking import national_ids
from rackwright.masking.fold import fold, fold_decoded
from rackwright.masking.text_map import TextMap
from rackwright.schema.formats import parse_address
from rackwright.schema.masking import TextRules

SEPARATORS_MAX = 6
"""Most signs between two parts of an identifier."""
_LATIN = "A-Za-z0-9\u00c0-\u024f"
_LETTER = r"[^\W\u0e00-\u0eff\u2e80-\u9fff]"
"""A letter of a writing with blanks between words."""
_DOT = "[.\u3002]"
_EMAIL = re.compile(
    rf"(?:\"[^\"\n]{{1,64}}\"|(?:{_LETTER}|[.%+&'-]){{0,63}}(?:{_LETTER}|[%+&'-])"
    r"|\w{0,9}[^\W\x00-\u024f])"  # a name of other letters ends at them
    r"(?:"
    rf"@(?:[{_LATIN}][{_LATIN}-]{{0,62}}(?:{_DOT}[{_LATIN}][{_LATIN}-]{{0,62}}){{1,8}}(?!\.[^\W\d_])"
    rf"|\w[\w-]{{0,62}}(?:{_DOT}\w[\w-]{{0,62}}){{1,8}})"
    rf"|[ ]{{0,{SEPARATORS_MAX}}}@[ ]{{0,{SEPARATORS_MAX}}}"
    rf"\w[\w-]{{0,62}}(?:{_DOT}\w[\w-]{{0,62}}){{0,7}}{_DOT}[^\W\d_]{{2,62}})"
)
_IPV4 = re.compile(
    r"(?<![0-9.])(?:(?:25[0-5]|2[0-4][0-9]|[01]?[0-9]?[0-9])\.){3}(?:25[0-5]|2[0-4][0-9]|[01]?[0-9]?[0-9])(?![0-9]|\.[0-9])"
)
_IPV6 = re.compile(r"(?<![0-9A-Za-z.])(?:[0-9A-Fa-f]{1,4}:|::)[0-9A-Fa-f:]{1,39}(?:\.[0-9.]{5,11})?(?![0-9A-Za-z:])")
_MAC = re.compile(
    r"(?<![0-9A-Za-z-])[0-9A-Fa-f]{2}([:-])(?:[0-9A-Fa-f]{2}\1){4,6}[0-9A-Fa-f]{2}(?![0-9A-Za-z]|[:-][0-9A-Fa-f]{2})"
    r"|(?<![0-9A-Za-z.])[0-9A-Fa-f]{4}\.[0-9A-Fa-f]{4}\.[0-9A-Fa-f]{4}(?![0-9A-Za-z])"
)
_IBAN = re.compile(r"(?<![0-9A-Z])(?=(?P<id>[A-Z]{2}[0-9]{2}(?:" + national_ids.SEPARATOR + r"[0-9A-Z]){11,30}))")
_PHONES = (
    re.compile(r"(?<![0-9+])\+[ ]{0,6}[1-9](?:[ ./()-]{0,6}[0-9]){6,14}(?![0-9])"),
    re.compile(r"(?<![0-9])00[1-9](?:[ ./()-]{0,6}[0-9]){8,13}(?![0-9])"),
    re.compile(r"(?<![0-9])(?:0|86[ ./-]{0,6})?1[3-9][0-9](?:[ ./-]{0,6}[0-9]{4}){2}(?![0-9])"),
    re.compile(r"(?<![0-9])(\()?0(?:10|2[0-9]|[3-9][0-9]{2})(?(1)\))[ ./-]{0,6}[2-9][0-9]{6,7}(?![0-9])"),
    re.compile(r"(?<![0-9])(\()?0[1-9][0-9]{1,4}(?(1)\))[ /-]{1,6}[0-9]{2,8}(?:[ -]{0,6}[0-9]{2,6}){0,3}(?![0-9])"),
    re.compile(r"(?<![0-9])0[1-9][0-9]{8,9}(?![0-9])"),
    re.compile(r"(?<![0-9])0[1-9]([ ./-]{1,6})[0-9]{2}(?:\1[0-9]{2}){3}(?![0-9])"),
    re.compile(r"(?<![0-9])1([ ./-]{1,6})[3-9](?:\1[0-9]){9}(?![0-9])"),
    re.compile(r"(?<![0-9])(\()?[2-9][0-9]{2}(?(1)\))[ ./-]{1,6}[2-9][0-9]{2}[ ./-]{1,6}[0-9]{4}(?![0-9])"),
)
"""International numbers with + and 00, Chinese mobiles and landlines, numbers with 0, in pairs, in single digits, and
those of North America."""
PHONE_DIGITS = range(8, 17)
CHECKS_MAX = 100_000
"""Most numbers of a text whose check digits are computed: a text of random digits with blanks has 10 for each."""
_NUMBER = re.compile(rf"[0-9]+(?:[ ./-]{{1,{SEPARATORS_MAX}}}[0-9]+)*")
"""Groups of digits with signs between them."""
WORD_MAX = 64
"""Letters beside an identifier that are looked at; a longer word without a digit is a label too."""
NUMBER_DIGITS = range(8, 20)
"""Digits of the numbers that a check digit decides about."""
_CARD = re.compile(
    r"4(?:[0-9]{12}|[0-9]{15}|[0-9]{18})|5[1-5][0-9]{14}|2(?:22[1-9]|2[3-9]|[3-6]|7[01]|720)[0-9]{12,14}|3[47][0-9]{13}"
    r"|3[068][0-9]{12}|35[0-9]{14}|6(?:011|4[4-9]|5)[0-9]{12,14}|62[0-9]{14,17}"
)
"""First digits and lengths of payment cards. Source: ISO/IEC 7812-1, and the ranges that the networks publish."""
_TIME = re.compile(
    r"(?<![0-9.-])(?:19|20)[0-9]{2}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])"
    r"(?:[T ](?:[01][0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9](?:\.[0-9]{1,9})?)?(?:Z|[+-][0-9]{2}:?[0-9]{2})?)?(?![0-9-])"
)
"""Times of ISO 8601, whose parts together are no identifier."""
_AREA = re.compile(r"[0-9+(][0-9 ()./+-]{6,}")
"""Digits and the signs between them, which are looked at more closely."""
_WORTH = re.compile(r"[0-9@]")
"""Signs without which a text has no identifier."""
_CAPITALS = str.maketrans(string.ascii_lowercase, string.ascii_uppercase)
PRIORITY = ("email", "iban", "national", "card", "mac", "ip", "record", "phone")
"""Kinds in the order in which they give overlapping hits their name."""


@dataclass(frozen=True)
class Hit:
    """An identifier in a text."""

    start: int
    end: int
    kind: str
    """``email``, ``phone``, ``card``, ``iban``, ``ip``, ``mac``, ``id_`` and a country, or a name of record numbers."""
    value: str
    """The identifier in one form, whatever signs and blanks are between its parts."""
    rank: int
    """The place of its sort in PRIORITY."""


class TooManyNumbers(ValueError):
    """A text with more numbers than a search tries."""


class _SeparatorTable(dict[int, str]):
    """Each sign between letters and digits as a blank, but those that have a meaning in numbers."""

    def __missing__(self, code: int) -> str:
        sign = chr(code)
        self[code] = sign if sign.isalnum() or sign in "+()./-\n\r" else " "
        return self[code]


_SEPARATORS = _SeparatorTable()


class Recogniser:
    """Finds the identifiers that a policy names."""

    def __init__(self, rules: TextRules) -> None:
        self._national = national_ids.select(rules.countries)
        self._records = [
            (name, re.compile("|".join(_record_pattern(form) for form in forms), re.IGNORECASE))
            for name, forms in rules.records.items()
        ]

    def find(self, text: str) -> list[Hit]:
        """Return the identifiers in *text* in their order; none overlaps another.

        Raises:
            TooManyNumbers: The search would take too long.
        """
        if not text:
            return []
        self._checks = 0
        return _separate(hit for plain in chain([fold(text)], fold_decoded(text)) for hit in self._hits(plain))

    def _hits(self, plain: TextMap) -> Iterator[Hit]:
        """Yield the identifiers in *plain* at their places in the original."""
        if not _WORTH.search(plain.text):
            return
        for hit in _separate(self._candidates(plain.text)):
            start, end = plain.original(hit.start, hit.end)
            yield Hit(start, end, hit.kind, hit.value, hit.rank)

    def _candidates(self, text: str) -> Iterator[Hit]:
        unified = text.translate(_SEPARATORS)
        capitals = unified.translate(_CAPITALS)
        found = [hit for hit in self._raw(text, unified, capitals) if stands_alone(text, hit.start, hit.end)]
        times = [match.span() for match in _TIME.finditer(text)] if found else []
        for hit in found:
            place = bisect_right(times, (hit.start, len(text))) - 1
            if place < 0 or hit.end > times[place][1] or text[hit.start : hit.end].isdigit():
                yield hit

    def _raw(self, text: str, unified: str, capitals: str) -> Iterator[Hit]:
        if "@" in text:
            for match in _EMAIL.finditer(text):
                yield _hit(match, "email", match[0].lower())
        for match in _IBAN.finditer(capitals):
            yield from _iban(match)
        for start, end, country in self._national.of_shapes(capitals):
            yield Hit(start, end, f"id_{country.lower()}", _compact(capitals[start:end]), PRIORITY.index("national"))
        yield from _addresses(text)
        for name, pattern in self._records:
            for match in pattern.finditer(unified):
                yield Hit(*match.span(), name, _compact(match[0].upper()), PRIORITY.index("record"))
        for area in _AREA.finditer(unified):
            if sum(map(str.isdigit, area[0])) >= NUMBER_DIGITS.start:
                yield from self._numbers(unified, *area.span())
                yield from _phones(unified, *area.span())

    def _numbers(self, text: str, start: int, end: int) -> Iterator[Hit]:
        """Yield each valid number of digits alone: of a group of digits, or of several with signs between them."""
        for match in _NUMBER.finditer(text, start, end):
            whole = match[0]  # each access copies it, and one text may be millions of groups
            groups = [(each.start(), each.end()) for each in re.finditer("[0-9]+", whole)]
            if len(groups) == 2 and whole[groups[0][1] : groups[1][0]] == ".":
                del groups[1]  # its decimals
            for first, (begin, _) in enumerate(groups):
                digits = ""
                for index in range(first, len(groups)):
                    digits += whole[slice(*groups[index])]
                    if len(digits) >= NUMBER_DIGITS.stop:
                        break
                    if len(digits) in NUMBER_DIGITS and (kind := self._kind(digits)):
                        rank = PRIORITY.index("card" if kind == "card" else "national")
                        yield Hit(match.start() + begin, match.start() + groups[index][1], kind, digits, rank)

    def _kind(self, digits: str) -> str | None:
        is_card = _CARD.fullmatch(digits) is not None
        if not is_card and len(digits) not in self._national.by_length:
            return None
        self._checks += 1
        if self._checks > CHECKS_MAX:
            raise TooManyNumbers
        if country := self._national.of_digits(digits):
            return f"id_{country.lower()}"
        return "card" if is_card and national_ids.is_valid("luhn", digits) else None


def stands_alone(text: str, start: int, end: int) -> bool:
    """Return whether the part of *text* is no piece of a longer word of letters and digits, such as a digest.

    A word of letters alone before a digit, as in ``tel13800138000``, is a label. A Chinese character is no letter here.
    """
    left, right = _neighbours(text, start - 1, -1), _neighbours(text, end, 1)
    if "digit" in (left, right):
        return False
    return not (left and not text[start].isdigit()) and not (right and not text[end - 1].isdigit())


def _neighbours(text: str, place: int, step: int) -> str:
    """Return ``digit`` if the word from *place* on has one, ``letter`` if it has letters alone, or nothing."""
    first = place
    while 0 <= place < len(text) and text[place].isascii() and text[place].isalnum() and abs(place - first) < WORD_MAX:
        if text[place].isdigit():
            return "digit"
        place += step
    return "letter" if place != first else ""


def _separate(candidates: Iterator[Hit]) -> list[Hit]:
    """Return hits that do not overlap: overlapping ones are one hit, with the name and value of the first sort."""
    merged: list[Hit] = []
    for hit in sorted(candidates, key=lambda each: (each.start, each.rank, -each.end)):
        if merged and hit.start < merged[-1].end:
            last = merged.pop()
            best = min(last, hit, key=lambda each: (each.rank, each.start - each.end))
            hit = Hit(last.start, max(last.end, hit.end), best.kind, best.value, best.rank)
        merged.append(hit)
    return merged


def _hit(match: re.Match[str], kind: str, value: str) -> Hit:
    return Hit(*match.span(), kind, value, PRIORITY.index(kind))


def _iban(match: re.Match[str]) -> Iterator[Hit]:
    """Yield the account number at the beginning of *match*, which may go on with other words."""
    whole = match["id"]
    for end in range(len(whole), 14, -1):
        is_end = end == len(whole) or not whole[end].isalnum()
        if is_end and national_ids.is_valid("iban", _compact(whole[:end])):
            yield Hit(match.start(), match.start() + end, "iban", _compact(whole[:end]), PRIORITY.index("iban"))
            return


def _addresses(text: str) -> Iterator[Hit]:
    if text.count(".") >= 3:
        for match in _IPV4.finditer(text):
            yield _hit(match, "ip", match[0])
    if text.count(":") >= 2:
        for match in _IPV6.finditer(text):
            if any(map(str.isdigit, match[0])) and _is_ipv6(match[0]):
                yield _hit(match, "ip", match[0].lower())
    if max(text.count(":"), text.count("-")) >= 5 or text.count(".") >= 2:
        for match in _MAC.finditer(text):
            yield _hit(match, "mac", _compact(match[0]).lower())


def _phones(text: str, start: int, end: int) -> Iterator[Hit]:
    for pattern in _PHONES:
        for match in pattern.finditer(text, start, end):
            if len(digits := _compact(match[0])) in PHONE_DIGITS:
                yield _hit(match, "phone", digits.removeprefix("00").removeprefix("86"))


def _is_ipv6(text: str) -> bool:
    try:
        return parse_address(text).version == 6
    except ValueError:
        return False


def _compact(text: str) -> str:
    """Return the letters and digits of *text*."""
    return re.sub(r"[^0-9A-Za-z]", "", text)


def _record_pattern(form: str) -> str:
    """Return the pattern of *form* in a text of unified signs: other signs, or none, may be between its parts."""
    shape = ""
    for before, sign in pairwise(f" {form}"):
        if not (sign.isalnum() or sign in "#@"):
            continue
        is_change = (before in "#@") != (sign in "#@") or not (before.isalnum() or before in "#@")
        shape += national_ids.SEPARATOR if shape and is_change else ""
        shape += {"#": "[0-9]", "@": "[A-Za-z]"}.get(sign, re.escape(sign))
    left = r"(?<![0-9])" if form[0] == "#" or form[0].isdigit() else r"(?<![0-9A-Za-z])"
    return rf"{left}{shape}(?![0-9])"


def replace(text: str, hits: Sequence[Hit], names: Sequence[str]) -> str:
    """Return *text* with each of *hits* replaced by its name in brackets."""
    parts, place = [], 0
    for hit, name in zip(hits, names, strict=True):
        parts += [text[place : hit.start], f"[{name}]"]
        place = hit.end
    return "".join([*parts, text[place:]])
