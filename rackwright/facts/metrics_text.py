"""The text format of Prometheus, as programs on hosts write it: bounded labels, and files that appear at once."""

from __future__ import annotations

import contextlib
import math
import os
import re
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Tuple  # noqa: UP035 - a host may have Python 3.8

Sample = Tuple[str, "Mapping[str, str]", float]  # noqa: UP006
"""Name, labels and value of a sample."""
LABEL_MAX = 100
"""Characters of a label: drivers and hosts choose some of them."""
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]{0,39})="((?:[^"\\\n]|\\[\\n"]){0,200})"(?:,|$)', re.ASCII)
VALUE = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]{1,3})?|Inf)|NaN", re.ASCII)
LABELS_MAX = 8
HEAD_BYTES = 1 << 13
"""Maximum size of a request."""


def to_text(samples: Iterable[Sample]) -> str:
    """Return *samples* in Prometheus's text format, each a gauge, sorted by name.

    The first of two samples counts whose labels are equal once cut: Prometheus refuses a file with both.
    """
    lines, names, series = [], set(), set()
    for name, labels, value in sorted(samples, key=lambda sample: sample[0]):
        if name not in names:
            lines.append(f"# TYPE {name} gauge")
            names.add(name)
        text = ",".join(f'{label}="{escape(each)}"' for label, each in labels.items())
        key = f"{name}{{{text}}}" if text else name
        if key not in series:
            series.add(key)
            lines.append(f"{key} {value:.14g}")
    return "\n".join(lines) + "\n"


def collect(reader: Callable[..., Iterable[Sample]], rows: Iterable[Tuple[Any, ...]]) -> Iterator[Sample]:  # noqa: UP006
    """Yield the samples that *reader* makes of each of *rows*, its arguments.

    A row that is not understood has none, and ends none of others: accounts and devices write some of them.
    """
    for row in rows:
        with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError, OverflowError):
            yield from [*reader(*row)]


def number_of(facts: Any, key: str) -> float | None:
    """Return the number under *key* of raw facts; None if it is unknown or none that Prometheus can show."""
    value = facts.get(key) if isinstance(facts, dict) else None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    # a comparison of an integer and a float is exact, and false for NaN
    return float(value) if -sys.float_info.max <= value <= sys.float_info.max else None


def table_of(facts: Any, key: str) -> dict[str, Any]:
    """Return the table under *key* of raw facts; an empty one if it is unknown or no table."""
    value = facts.get(key) if isinstance(facts, dict) else None
    return value if isinstance(value, dict) and not is_unknown(value) else {}


def rows_of(facts: Any, key: str) -> list[Any]:
    """Return the list under *key* of raw facts; an empty one if it is unknown or no list."""
    value = facts.get(key) if isinstance(facts, dict) else None
    return value if isinstance(value, list) else []


def is_unknown(value: Any) -> bool:
    """Return whether *value* has the form in which facts record that a value is unknown."""
    return isinstance(value, dict) and value.keys() == {"unknown"}


def escape(text: str) -> str:
    """Return *text* as the value of a label."""
    printable = "".join(sign if sign.isprintable() else "?" for sign in text[:LABEL_MAX])
    return printable.replace("\\", "\\\\").replace('"', '\\"')


def is_value(text: str) -> bool:
    """Return whether Prometheus reads *text* as a value: it refuses numbers that are too large for a float."""
    if VALUE.fullmatch(text) is None:
        return False
    return text.endswith(("Inf", "NaN")) or math.isfinite(float(text))


def parse_labels(text: str) -> dict[str, str] | None:
    """Return the labels of *text*, with their values as written; None if a reader could refuse or misread them."""
    labels: dict[str, str] = {}
    position = 0
    while position < len(text):
        found = LABEL.match(text, position)
        if found is None or found[1].startswith("__") or found[1] in labels or len(labels) == LABELS_MAX:
            return None
        labels[found[1]] = found[2]
        position = found.end()
    return labels


def write_file(path: str, text: str) -> None:
    """Write a file of metrics; the exporter never reads half a file.

    The account of Prometheus owns the directory above that of the file, and may put a link or a directory in its place:
    all is done below the descriptor of a directory of this account's.

    Raises:
        OSError: the directory is a link, or belongs to another account.
    """
    folder, _, name = path.rpartition("/")
    temporary = f"{name}.tmp"
    directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        status = os.fstat(directory)
        if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise PermissionError(f"{folder} is a directory to which another account may write")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=directory)  # of a run that was killed
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with os.fdopen(os.open(temporary, flags, 0o644, dir_fd=directory), "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    finally:
        os.close(directory)


def respond_with(make: Callable[[], str]) -> None:
    """Answer one HTTP request on standard input and output with the metrics that *make* returns."""
    if not read_request():
        sys.stdout.write("HTTP/1.0 400 Bad Request\r\nconnection: close\r\n\r\n")
        return
    body = make().encode()
    head = f"HTTP/1.0 200 OK\r\ncontent-type: text/plain; version=0.0.4\r\ncontent-length: {len(body)}\r\n"
    sys.stdout.buffer.write(f"{head}connection: close\r\n\r\n".encode() + body)


def read_request() -> bool:
    """Return whether a whole request for `/metrics` arrives on standard input."""
    request = b""
    while b"\r\n\r\n" not in request and len(request) < HEAD_BYTES:
        part = os.read(0, HEAD_BYTES)
        if not part:
            return False
        request += part
    return re.match(rb"GET /metrics HTTP/1\.[01]\r\n", request) is not None
