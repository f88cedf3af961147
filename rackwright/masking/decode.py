"""Escapes of characters in texts: of JSON, URLs, HTML, e-mail and people who hide addresses from programs."""

import html
import re
from collections.abc import Iterator

Sign = tuple[int, int, str]
"""Begin and end of a sign in the original text, and the sign."""
ROUNDS = 5
"""Times that a text is decoded: an escape may be escaped."""


def _utf8(mark: str, name: str) -> str:
    """Return the pattern of a character in UTF-8, of which each byte follows *mark* in hexadecimal."""
    low, more = f"{mark}[0-7][0-9a-fA-F]", f"{mark}[89abAB][0-9a-fA-F]"
    wide = f"{mark}[cdCD][0-9a-fA-F]{more}|{mark}[eE][0-9a-fA-F](?:{more}){{2}}|{mark}[fF][0-7](?:{more}){{3}}"
    return f"(?P<{name}>{low}|{wide})"


_ESCAPE = re.compile(
    r"\\(?:u\{0*(?P<braces>[0-9a-fA-F]{1,6})\}|U(?P<long>[0-9a-fA-F]{8})|u(?P<short>[0-9a-fA-F]{4})"
    r"|x\{0*(?P<wide>[0-9a-fA-F]{1,6})\}|x(?P<byte>[0-9a-fA-F]{2})|(?P<octal>[0-3]?[0-7]{2})|(?P<control>[tnr])"
    r"|(?P<backslash>\\))"
    rf"|%u(?P<percent>[0-9a-fA-F]{{4}})|{_utf8('%', 'url')}|{_utf8('=', 'quoted')}|(?P<soft>=\r?\n)"
    r"|&#0{0,20}(?P<decimal>[0-9]{1,7});?|&#[xX]0{0,20}(?P<hexadecimal>[0-9a-fA-F]{1,6});?"
    r"|(?P<entity>&[A-Za-z][A-Za-z0-9]{1,31};)"
    r"|[ ]{0,3}[\[({][ ]?(?:(?P<at>(?i:at)|@)|(?P<dot>(?i:dot)|\.))[ ]?[\])}][ ]{0,3}"
)
_OWN = re.compile("%|=|\\\\|&|[\\[({][ ]?(?:at|@|dot|\\.)", re.IGNORECASE)
"""Signs without which a text has no escape."""


def rounds(text: str) -> Iterator[list[Sign]]:
    """Yield the signs of *text* after each round of decoding that changes them."""
    places: list[tuple[int, int]] | None = None
    for _ in range(ROUNDS):
        if not _OWN.search(text):
            return
        signs = _decode(text, places)
        if signs is None:
            return
        yield signs
        text, places = "".join(sign for *_, sign in signs), [(start, end) for start, end, _ in signs]


def _decode(text: str, places: list[tuple[int, int]] | None) -> list[Sign] | None:
    """Return the signs of *text*, whose characters have *places* in the original; None if it has no escape."""
    signs: list[Sign] = []
    place = 0
    for match in _ESCAPE.finditer(text):
        signs += _copy(text, places, place, match.start())
        start, end = match.span()
        if places is not None:
            start, end = places[start][0], places[end - 1][1]
        signs += [(start, end, each) for each in _character(match)]
        place = match.end()
    if place == 0:
        return None
    return signs + _copy(text, places, place, len(text))


def _copy(text: str, places: list[tuple[int, int]] | None, start: int, end: int) -> list[Sign]:
    if places is None:
        return [(index, index + 1, text[index]) for index in range(start, end)]
    return [(*places[index], text[index]) for index in range(start, end)]


def _character(match: re.Match[str]) -> str:
    """Return the characters that the escape *match* stands for."""
    name, value = next((name, value) for name, value in match.groupdict().items() if value is not None)
    match name:
        case "control":
            return " "
        case "backslash":
            return "\\"
        case "soft":
            return ""
        case "at":
            return "@"
        case "dot":
            return "."
        case "entity":
            return html.unescape(value)
        case "url" | "quoted":
            return bytes.fromhex(value.replace(value[0], "")).decode(errors="replace")
        case "octal":
            return chr(int(value, 8))
        case "decimal":
            return chr(min(int(value), 0x10FFFF))
    return chr(min(int(value, 16), 0x10FFFF))
