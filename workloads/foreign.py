"""The one reader of foreign data: bytes and JSON from others, bounded in size, depth, number and time."""

import errno
import http.client
import io
import json
import math
import os
import re
import socket
import ssl
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol, TypeVar

Result = TypeVar("Result")

BYTES_MAX = 4 << 20
"""Default maximum size of a JSON text."""
DEPTH_MAX = 64
"""Default maximum number of levels of objects and lists; no format that we read has more than 20."""
ITEMS_MAX = 1_000_000
"""Default maximum number of values: one takes up to about 150 bytes of memory."""
DIGITS_MAX = 40
"""Maximum digits of an integer: those of 128 bits, and of the 10^30 in tokenizers of Hugging Face."""
NUMBER_LONGEST = 1100
"""Maximum characters of a number: the exact value of the smallest double has 1,075 digits."""
_BLOCK = 1 << 16
_SHOWN = 40
_SPLIT_MAX = 1_000_000
"""Strings up to which a text is split, which takes half the time of a regular expression, and more memory."""
_STRING = re.compile(rb'"[^"]*+"?+')
"""A string without its escaped quotes. It always matches at a quote, so that a search takes linear time."""
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_ALIKE = bytes.maketrans(b"{}", b"[]")
_LARGE_NUMBER = re.compile(rb"[0-9]{%d}" % (DIGITS_MAX + 1))
"""Digits of an integer that may be too long; a look at each integer takes longer than the rest of the parser."""
_HALF_PAIR = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F]"
)
"""One half of a UTF-16 pair without the other one: such a text has no form in UTF-8."""


class InvalidData(ValueError):
    """Foreign data that is refused. The text has at most about 200 printable characters, and names no secret."""


class InvalidJson(InvalidData):
    """A text that is no JSON."""

    def __init__(self, problem: str, line: int, column: int) -> None:
        self.problem, self.column = problem, column
        super().__init__(f"the data is no JSON: {problem} in line {line}, column {column}")


class TooLarge(InvalidData):
    """Foreign data with more bytes or values than its bound."""


class Readable(Protocol):
    """An open file, an answer of HTTP, or the body of an object."""

    def read(self, size: int, /) -> bytes: ...


def within(seconds: float, action: Callable[[], Result]) -> Result:
    """Return the result of *action*, or give up after *seconds*, however the time was spent.

    A time limit of a socket begins again with each byte, so that a peer that sends one byte at a time never meets it.
    The action runs in a thread of its own. The thread of an action that is late ends when its connection ends; no
    program waits for it.

    Raises:
        TimeoutError: The action did not end in time.
        BaseException: Whatever the action raised.
    """
    results: list[Result] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(action())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True, name="foreign")
    thread.start()
    thread.join(max(0.0, seconds))
    if thread.is_alive():
        raise TimeoutError(f"no end within {seconds:g} s")
    if errors:
        raise errors[0]
    return results[0]


def read_bounded(body: Readable, limit: int, deadline: float | None = None) -> bytes:
    """Return the rest of *body*.

    Args:
        limit: Maximum bytes. At most one more is read.
        deadline: Time on `time.monotonic` by which the end was read; None for a file of this computer.

    Raises:
        InvalidData: The body is longer than *limit*.
        TimeoutError: It did not end before *deadline*.
    """
    if deadline is None:
        return _read(body, limit)
    try:
        return within(deadline - time.monotonic(), lambda: _read(body, limit))
    except TimeoutError:
        _shut_down(body)
        raise


@contextmanager
def ended_after(seconds: float, body: Readable) -> Iterator[None]:
    """End the connection of *body* unless the block, which reads it, ends within *seconds*.

    Raises:
        TimeoutError: The block did not end in time.
    """
    over = threading.Event()

    def end() -> None:
        over.set()
        _shut_down(body)

    timer = threading.Timer(max(0.0, seconds), end)
    timer.daemon = True
    timer.start()
    try:
        yield
    except Exception:
        if not over.is_set():
            raise
    finally:
        timer.cancel()
    if over.is_set():
        raise TimeoutError(f"no end within {seconds:g} s")


def open_regular(path: Path, *, follow: bool = False) -> io.BufferedReader:
    """Return *path*, opened for reading: a regular file, and no device, FIFO or socket.

    Args:
        follow: Whether it may be a link to a regular file, as caches of models have them.

    Raises:
        OSError: The file is something else, or cannot be opened.
    """
    return os.fdopen(regular_descriptor(path, follow=follow), "rb")


def regular_descriptor(path: Path, *, follow: bool = False) -> int:
    """Return the descriptor of a regular file; see `open_regular`."""
    # O_NONBLOCK: without it, opening a FIFO waits for its writer
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        if error.errno == errno.ELOOP and not follow:
            raise OSError(error.errno, "it is a link", str(path)) from None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    return descriptor


def read_file(path: Path, limit: int = BYTES_MAX) -> bytes:
    """Return the content of a regular file that others wrote.

    Raises:
        InvalidData: The file is longer than *limit*.
        OSError: It cannot be read, or is no regular file.
    """
    with open_regular(path, follow=True) as file:
        return read_bounded(file, limit)


def read_whole(path: Path) -> bytes:
    """Return the content of a regular file of any size, such as data that the user names.

    Raises:
        OSError: It cannot be read, or is no regular file.
    """
    with open_regular(path, follow=True) as file:
        return file.read()


def parse_json(
    content: bytes | str,
    max_bytes: int = BYTES_MAX,
    max_depth: int = DEPTH_MAX,
    max_items: int = ITEMS_MAX,
    *,
    lenient: bool = False,
    finite: bool | None = None,
) -> Any:
    """Return the value of the JSON text *content*, which is in UTF-8 without a byte order mark.

    Depth and number are checked before any value is made. An object with the same key twice is refused, since other
    readers take the other value.

    Args:
        max_bytes: Maximum size of the text in UTF-8.
        max_depth: Maximum number of levels of objects and lists.
        max_items: Maximum number of values, those of all levels together; an empty list or object counts twice.
        lenient: Whether the text may have what Python's own reader accepts beyond JSON: NaN, Infinity, the same key
            twice, of which the last one counts, and half a UTF-16 pair. Files of models have such values.
        finite: Whether NaN and Infinity are refused; by default unless *lenient*.

    Raises:
        TooLarge: The text has too many bytes or values.
        InvalidData: It has too many levels, or is no JSON.
    """
    refuse_infinite = not lenient if finite is None else finite
    raw, text = _texts(content, max_bytes)
    plain = _check_structure(raw, max_depth, max_items, lenient)

    def constant(name: str) -> float:
        if refuse_infinite:
            raise InvalidData(f"the data has the number {name}, which JSON does not have")
        return float(name)

    def number(digits: str) -> float:
        value = float(_short(digits, NUMBER_LONGEST))
        if refuse_infinite and math.isinf(value):
            raise InvalidData("the data has a number that is too large")
        return value

    hooks: dict[str, Any] = {"parse_constant": constant, "parse_float": number}
    if _LARGE_NUMBER.search(plain):
        hooks["parse_int"] = lambda digits: int(_short(digits, DIGITS_MAX))
    if not lenient:
        hooks["object_pairs_hook"] = _unique
    try:
        return json.loads(text, **hooks)
    except json.JSONDecodeError as error:
        problem = error.msg[:1].lower() + error.msg[1:].removesuffix(" at")
        raise InvalidJson(problem, error.lineno, error.colno) from None
    except RecursionError:  # the caller is deep in its own calls
        raise InvalidData("the data has too many levels") from None


def parse_object(
    content: bytes | str,
    max_bytes: int = BYTES_MAX,
    max_depth: int = DEPTH_MAX,
    max_items: int = ITEMS_MAX,
    *,
    lenient: bool = False,
    finite: bool | None = None,
) -> dict[str, Any]:
    """Return the JSON object in *content*; see `parse_json`.

    Raises:
        InvalidData: There is no object, or a bound is exceeded.
    """
    value = parse_json(content, max_bytes, max_depth, max_items, lenient=lenient, finite=finite)
    if not isinstance(value, dict):
        raise InvalidData(f"the data is a JSON {_NAMES[type(value)]}, and an object is expected")
    return value


def excerpt(text: object) -> str:
    """Return the beginning of *text* of others with printable ASCII characters alone."""
    plain = ascii(str(text)[: _SHOWN + 1])[1:-1]
    return plain if len(plain) <= _SHOWN else f"{plain[:_SHOWN]}…"


class EndableConnection(http.client.HTTPSConnection):
    """A connection that another thread can end at any time, also while an answer is read."""

    def __init__(
        self,
        host: str,
        port: int,
        context: ssl.SSLContext,
        connect_seconds: float,
        answer_seconds: float,
        blocksize: int = _BLOCK,
    ) -> None:
        """
        Args:
            connect_seconds: Time limit to connect.
            answer_seconds: Time limit between two parts of what is sent or received.
        """
        super().__init__(host, port, context=context, timeout=connect_seconds, blocksize=blocksize)
        self._answer_seconds = answer_seconds
        self._connected: socket.socket | None = None
        self.is_over = False
        """Whether the time is over."""

    def connect(self) -> None:
        if self.is_over:
            raise TimeoutError("the time is over")
        super().connect()
        self.sock.settimeout(self._answer_seconds)
        self._connected = self.sock  # the base class forgets it when an answer without a length begins

    def end(self) -> None:
        self.is_over = True
        connected = self._connected or self.sock
        if connected is not None:
            with suppress(OSError):
                socket.socket.shutdown(connected, socket.SHUT_RDWR)

    @contextmanager
    def end_after(self, seconds: float) -> Iterator[None]:
        """End the connection unless the block ends within *seconds*.

        Raises:
            TimeoutError: The block failed since its time was over.
        """
        timer = threading.Timer(seconds, self.end)
        timer.daemon = True
        timer.start()
        try:
            yield
        except (OSError, http.client.HTTPException, ValueError) as error:
            if self.is_over:
                raise TimeoutError(f"no end within {seconds:g} s") from error
            raise
        finally:
            timer.cancel()
        if self.is_over:  # an answer without a length ends where its connection ends
            raise TimeoutError(f"no end within {seconds:g} s")


_NAMES = {list: "list", str: "text", int: "number", float: "number", bool: "truth value", type(None): "null"}


def _read(body: Readable, limit: int) -> bytes:
    content = io.BytesIO()
    while content.tell() <= limit:
        part = body.read(min(_BLOCK, limit + 1 - content.tell()))
        if not part:
            return content.getvalue()
        content.write(part)
    raise TooLarge(f"the data is longer than {limit} bytes")


def _shut_down(body: Any) -> None:
    """End the connection of *body*, whose reader waits for it. A close of the body would wait as well."""
    stream = getattr(body, "_raw_stream", body)  # of botocore
    with (
        suppress(OSError, ValueError, AttributeError, TypeError),
        socket.socket(fileno=socket.dup(stream.fileno())) as connected,
    ):
        connected.shutdown(socket.SHUT_RDWR)


def _texts(content: bytes | str, max_bytes: int) -> tuple[bytes, str]:
    """Return *content* as bytes and as text."""
    if len(content) > max_bytes:
        raise TooLarge(f"the data is longer than {max_bytes} bytes")
    try:
        raw = content.encode() if isinstance(content, str) else bytes(content)
        text = raw.decode() if isinstance(content, bytes | bytearray | memoryview) else content
    except UnicodeError:
        raise InvalidData("the data is not in UTF-8") from None
    if len(raw) > max_bytes:
        raise TooLarge(f"the data is longer than {max_bytes} bytes")
    if text.startswith("\ufeff"):
        raise InvalidData("the data begins with a byte order mark, and JSON has none")
    return raw, text


def _check_structure(raw: bytes, max_depth: int, max_items: int, lenient: bool) -> bytes:
    """Return the part of *raw* with all its numbers, if it has at most *max_depth* levels and *max_items* values.

    No value is made. Each step takes linear time and memory. A text that is no JSON may pass, or fail otherwise.

    Raises:
        TooLarge: The text has more values.
        InvalidData: It has more levels, or half a UTF-16 pair without *lenient*.
    """
    opening = raw.count(b"[") + raw.count(b"{")
    is_flat = opening <= max_depth and opening + raw.count(b",") < max_items
    if is_flat and (lenient or b"\\u" not in raw):
        return raw
    plain = raw.replace(rb"\\", b"__") if b"\\" in raw else raw
    if not lenient and b"\\u" in plain and _HALF_PAIR.search(plain):
        raise InvalidData("the data has half a UTF-16 pair")
    if is_flat:
        return raw
    if b"\\" in plain:
        plain = plain.replace(rb"\"", b"__")
    quotes = plain.count(b'"')
    if quotes > 4 * max_items:  # two quotes of a key, and two of its value
        raise TooLarge(f"the data has more than {max_items} values")
    plain = b"".join(plain.split(b'"')[::2]) if quotes <= _SPLIT_MAX else _STRING.sub(b"", plain)
    brackets = plain.translate(_ALIKE, _NO_BRACKETS)
    if brackets.count(b"[") + plain.count(b",") >= max_items:
        raise TooLarge(f"the data has more than {max_items} values")
    for _ in range(max_depth):
        if not brackets:
            return plain
        brackets = brackets.replace(b"[]", b"")  # the innermost level
    if brackets:
        raise InvalidData(f"the data has more than {max_depth} levels, or its brackets do not match")
    return plain


def _short(digits: str, longest: int) -> str:
    if len(digits) > longest:
        raise InvalidData(f"the data has a number of {len(digits)} digits")
    return digits


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the object with *pairs*.

    Raises:
        InvalidData: It has a key twice.
    """
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = ""
        for key, _ in pairs:
            twice = key if key in seen else twice
            seen.add(key)
        raise InvalidData(f"an object of the data has the key {excerpt(twice)} twice")
    return found
