"""Escapes of characters in texts: of JSON, URLs, HTML, e-mail and people who hide addresses from programs."""

import html
import re
from collections.abc import Iterator
from itertools import chain

from rackwright.masking.text_map import TextMap

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


def rounds(text: str) -> Iterator[TextMap]:
    """Yield *text* after each round of decoding that changes it."""
    text_map = TextMap.whole(text, text)
    for _ in range(ROUNDS):
        if not _OWN.search(text_map.text):
            return
        found = _ESCAPE.finditer(text_map.text)
        first = next(found, None)
        if first is None:
            return
        text_map = text_map.replace((*each.span(), _character(each)) for each in chain([first], found))
        yield text_map


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
