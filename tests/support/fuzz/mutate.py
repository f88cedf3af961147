"""Mutations of valid input: of bytes, and of plain data such as JSON and YAML hold."""

import random
from typing import Any

from hypothesis import strategies as st

STRANGE: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 1 << 31, 1 << 63, 1 << 70, -(1 << 64), 10**400, 0.5, 1e308,
    float("inf"), float("nan"),
    "", " ", "0", "-1", "x" * 5000, "../../etc/passwd", "/", "\x00", "\x1b]52;c;eA==\x07", "\u202e", "\ud800",
    "{{ 1 }}",    "${x}", "1e999", "é", "\n", "a\nb: c", "-", ".", "..", "~", "null", "=", "*x", "&x", "!!python/none",
    [], {}, [[]], [None], [1, 2, 3],
    {"unknown": "x"}, {"unknown": None}, {"": None}, {"a": {"b": {"c": []}}}, ["x"] * 300,
)  # fmt: skip
"""Values of the wrong type, size or alphabet."""
TOKENS: tuple[bytes, ...] = (
    b"", b"\0", b"\xff" * 8, b"9" * 400, b"9" * 5000, b"-1", b"1e999", b"NaN", b"Infinity", b"\x1b[2J", b"\xed\xa0\x80",
    b"[" * 3000, b'{"a":' * 3000, b"{", b"}", b"[", b"]", b'"', b"\\", b"\\ud800", b"\n", b"\r\n", b"\t", b":", b": ",
    b"- ", b"&a [*a]", b"*a", b"<<: ", b"!!binary x", b"%", b"#", b"---\n", b"...\n", b"|\n", b"null", b"true", b"~",
    b"../", b"\xef\xbb\xbf", b"\x80\x00\x00\x00\x00\x00\x00\x01", b"7" * 11, b"00000000000\0",
)  # fmt: skip
"""Bytes that are written into the middle of texts and headers."""
SORTS_OF_BYTES = ("flip", "cut", "insert", "double", "remove", "swap", "fill")
SORTS_OF_DATA = ("replace", "replace", "remove", "double", "rename", "copy", "nest")
Mutations = list[tuple[str, int, int]]
"""Sort, place and content of each; a place in plain data is one number, whose digits choose a child each."""
DIGITS = 1009


def _mutations(number: int, sorts: tuple[str, ...]) -> Mutations:
    """Return the mutations that a number stands for: one draw of hypothesis costs a tenth of a dozen draws."""
    source = random.Random(number)
    return [(source.choice(sorts), source.getrandbits(60), source.getrandbits(20)) for _ in range(source.randint(1, 3))]


_numbers = st.integers(0, (1 << 64) - 1)
of_bytes = _numbers.map(lambda number: _mutations(number, SORTS_OF_BYTES))
of_data = _numbers.map(lambda number: _mutations(number, SORTS_OF_DATA))


def mutated_bytes(content: bytes, mutations: Mutations) -> bytes:
    """Return *content* after each of *mutations*, which `of_bytes` draws."""
    for sort, place, what in mutations:
        at = place % (len(content) + 1)
        end = at + what % 64
        if sort == "flip" and at < len(content):
            content = content[:at] + bytes((content[at] ^ 1 << what % 8,)) + content[at + 1 :]
        elif sort == "cut":
            content = content[:at]
        elif sort == "insert":
            content = content[:at] + TOKENS[what % len(TOKENS)] + content[at:]
        elif sort == "double":
            content = content[:end] + content[at:]
        elif sort == "remove":
            content = content[:at] + content[end:]
        elif sort == "swap":
            token = TOKENS[what % len(TOKENS)]
            content = content[:at] + token + content[at + len(token) :]
        elif sort == "fill":
            content = content[:at] + bytes((what % 256,)) * len(content[at:end]) + content[end:]
    return content


def mutated_data(value: Any, mutations: Mutations) -> Any:
    """Return a copy of plain data after each of *mutations*, which `of_data` draws; unchanged parts are shared."""
    for sort, way, what in mutations:
        value = _mutate(value, sort, way, what)
    return value


def _mutate(value: Any, sort: str, way: int, what: int) -> Any:
    if not isinstance(value, (dict, list)) or not value:
        return STRANGE[what % len(STRANGE)]
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    way, digit = divmod(way, DIGITS)
    key = keys[digit % len(keys)]
    copy: Any = dict(value) if isinstance(value, dict) else list(value)
    child = value[key]
    if way and isinstance(child, (dict, list)) and child:
        copy[key] = _mutate(child, sort, way, what)
    elif sort == "remove":
        del copy[key]
    elif sort == "double":
        if isinstance(copy, list):
            copy.append(child)
        else:
            copy[f"{key}x"] = child
    elif sort == "rename" and isinstance(copy, dict):
        copy[str(STRANGE[what % len(STRANGE)])[:200]] = copy.pop(key)
    elif sort == "copy":
        copy[key] = value[keys[what % len(keys)]]
    elif sort == "nest":
        for _ in range(what % 60):
            child = [child]
        copy[key] = child
    else:
        copy[key] = STRANGE[what % len(STRANGE)]
    return copy
