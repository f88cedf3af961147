"""The reader of foreign data: what it refuses, with which memory, and that it reads other JSON as Python does."""

import http.client
import json
import math
import os
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workloads.errors import UserError
from workloads.evaluation import data as evaluation_data
from workloads.foreign import (
    InvalidData,
    TooLarge,
    excerpt,
    open_regular,
    parse_json,
    parse_object,
    read_bounded,
    read_file,
    read_whole,
    within,
)  # fmt: skip
from workloads.serving.vllm import read_object
from workloads.tracking.provenance import load_json

REFUSED = {
    "deep lists": b"[" * 100_000 + b"]" * 100_000,
    "open lists": b"[" * 100_000,
    "deep objects": b'{"a":' * 65 + b"1" + b"}" * 65,
    "brackets in turn": b'[{"a":' * 33 + b"1" + b"}]" * 33,
    "deep behind a text with brackets": b'["]]]]]]]]",' * 65 + b"1" + b"]" * 65,
    "deep behind escaped quotes": rb'["\"]\\",' * 65 + b"1" + b"]" * 65,
    "Infinity": b'{"at": Infinity}',
    "minus Infinity": b"[-Infinity]",
    "NaN": b"NaN",
    "beyond a double": b"[1e999]",
    "thousands of digits": b"9" * 5000,
    "41 digits": b"-" + b"1" * 41,
    "a fraction of 10,000 digits": b"0." + b"1" * 10_000,
    "not UTF-8": b'"\xff"',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf{}",
    "a surrogate in UTF-8": b'"\xed\xa0\x80"',
    "half a pair": rb'"\ud800"',
    "the other half": rb'"\uDE00"',
    "two first halves": rb'["\ud83d\ud83d\ude00"]',
    "a key twice": b'{"passed": false, "passed": true}',
    "a key twice in another form": rb'{"a": 1, "\u0061": 2}',
    "a key twice in an inner object": b'[{"b": {"a": 1, "a": 1}}]',
    "nothing": b"",
    "two documents": b"{} {}",
    "a comma at the end": b"[1,]",
    "a comment": b"[] // no",
    "single quotes": b"{'a': 1}",
    "a control character": b'"\x01"',
    "no brackets that match": b"[}" * 100,
}
LARGE: dict[str, Callable[[], bytes]] = {
    "10 million numbers": lambda: b"[" + b"0," * 10_000_000 + b"0]",
    "10 million lists": lambda: b"[" + b"[]," * 10_000_000 + b"0]",
    "10 million texts": lambda: b"[" + b'"",' * 10_000_000 + b"0]",
    "5 million objects": lambda: b"[" + b'{"":0},' * 5_000_000 + b"0]",
    "300 MB of a text": lambda: b'"' + b"a" * 300_000_000 + b'"',
}
"""Functions that return documents: each process that collects all tests would have 400 MB of them."""


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(name: str) -> None:
    with pytest.raises(InvalidData) as refused:
        parse_json(REFUSED[name])

    assert str(refused.value).isprintable() and len(str(refused.value)) < 200


@pytest.mark.parametrize("value", [[], "a", 1, None, True, [{}]])
def test_another_value_than_an_object_is_refused(value: Any) -> None:
    with pytest.raises(InvalidData, match=r"the data is a JSON \w"):
        parse_object(json.dumps(value))


def test_64_levels_are_read_and_65_are_not() -> None:
    assert parse_json(b"[" * 64 + b"]" * 64) is not None
    assert parse_json(b'["[[[[[[[["]' * 1, max_depth=1) == ["[" * 8]
    with pytest.raises(InvalidData):
        parse_json(b"[" * 65 + b"]" * 65)


def test_the_number_of_values_is_exact() -> None:
    text = json.dumps([{"a": [1, 2, ",,[[{{"]}, '\\",['])

    assert parse_json(text, max_items=7, max_depth=3) == json.loads(text)
    with pytest.raises(TooLarge):
        parse_json(text, max_items=6, max_depth=3)


def test_lenient_reads_what_python_reads_within_the_same_bounds() -> None:
    text = rb'{"a": [NaN, -Infinity, 1e999], "b": 1, "b": 2, "c": "\ud800"}'

    assert repr(parse_json(text, lenient=True)) == repr(json.loads(text))
    for name in ("deep lists", "open lists", "thousands of digits", "41 digits"):
        with pytest.raises(InvalidData):
            parse_json(REFUSED[name], lenient=True)
    with pytest.raises(InvalidData, match="NaN"):
        parse_json(text, lenient=True, finite=True)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**39), 10**39) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])) | st.text('[]{},:"\\u'),
    lambda inner: st.lists(inner) | st.dictionaries(st.text('[]{},:"\\ua'), inner),
)  # fmt: skip


@given(VALUES, st.booleans(), st.sampled_from([None, 1]))
def test_any_value_is_read_as_python_reads_it(value: Any, ascii_only: bool, indent: int | None) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)

    for content in (text, text.encode()):
        assert parse_json(content) == value
        assert parse_json(content, lenient=True) == value


@given(st.text('[]{},:"\\u0d8e1.-NaInfity \n') | st.binary())
def test_any_text_is_read_as_python_reads_it_or_refused(content: str | bytes) -> None:
    """The strict form reads no text in another way, and the lenient one refuses nothing but bounds and encodings."""
    try:
        expected = repr(json.loads(content if isinstance(content, str) else content.decode()))
    except ValueError:
        with pytest.raises(InvalidData):
            parse_json(content)
        with pytest.raises(InvalidData):
            parse_json(content, lenient=True)
        return
    with suppress(InvalidData):
        assert repr(parse_json(content)) == expected
    if len(content) < 40:
        assert repr(parse_json(content, lenient=True)) == expected


@given(VALUES)
def test_depth_and_number_are_those_of_the_value(value: Any) -> None:
    def measure(each: Any) -> tuple[int, int]:
        if not isinstance(each, list | dict):
            return 0, 1
        inner = [measure(one) for one in (each.values() if isinstance(each, dict) else each)]
        return 1 + max((depth for depth, _ in inner), default=0), 1 + sum(number for _, number in inner)

    depth, number = measure(value)
    text = json.dumps(value)
    upper = 2 * number + 1  # an empty list or object counts twice
    assert parse_json(text, max_depth=depth, max_items=upper) == value
    if depth:
        with pytest.raises(InvalidData):
            parse_json(text, max_depth=depth - 1, max_items=upper)


@pytest.mark.parametrize("name", LARGE)
def test_large_data_takes_no_more_memory_than_its_size(name: str, tmp_path: Path) -> None:
    """A process that parses it has a peak of a few times the bound of its size, and not hundreds of times."""
    path = tmp_path / "data"
    path.write_bytes(LARGE[name]())
    program = (
        "import re, sys, pathlib\n"
        "from workloads.foreign import *\n"
        "try:\n"
        "    parse_json(read_file(pathlib.Path(sys.argv[1]), 64 << 20), 64 << 20)\n"
        "    print('read')\n"
        "except TooLarge as error:\n"
        "    print('refused', error)\n"
        "print(re.findall(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[0])\n"
    )
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=True)
    [first, peak] = done.stdout.splitlines()

    assert first.startswith("refused the data "), first
    assert int(peak) < (64 << 10) * 4 + (64 << 10), f"{int(peak) >> 10} MiB"


@pytest.mark.parametrize("size", [0, 1, 65_536, 65_537, 1 << 20])
def test_a_body_of_the_limit_is_read_and_one_more_is_not(tmp_path: Path, size: int) -> None:
    (tmp_path / "data").write_bytes(b"a" * size)

    assert len(read_file(tmp_path / "data", size)) == size
    if size:
        with pytest.raises(TooLarge):
            read_file(tmp_path / "data", size - 1)


def test_a_text_in_a_message_is_short_and_printable() -> None:
    assert excerpt("\x1b]52;c\n\u202e") == "\\x1b]52;c\\n\\u202e"
    assert len(excerpt("\x00" * 10_000)) == 41


def _serve(answer: Callable[[socket.socket], None]) -> int:
    """Answer one connection in a thread, and return the port."""
    server = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        with server, server.accept()[0] as connection, suppress(OSError):
            connection.recv(65536)
            answer(connection)

    threading.Thread(target=run, daemon=True).start()
    return int(server.getsockname()[1])


def _drip(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    while True:
        connection.sendall(b"a")
        time.sleep(0.05)


def test_a_body_that_comes_byte_by_byte_ends_at_the_deadline() -> None:
    """Each byte comes within the time limit of the socket, and all together never would."""
    connection = http.client.HTTPConnection("127.0.0.1", _serve(_drip), timeout=10)
    connection.request("GET", "/")
    answer = connection.getresponse()
    others = set(threading.enumerate())  # of other tests of this process

    with pytest.raises(TimeoutError, match="no end within"):
        read_bounded(answer, 1 << 20, time.monotonic() + 0.3)
    ended = [thread for thread in threading.enumerate() if thread.name == "foreign" and thread not in others]
    for thread in ended:
        thread.join(10)
    assert not [thread for thread in ended if thread.is_alive()], "the reader goes on reading"
    connection.close()


def test_an_action_in_time_gives_its_result_or_its_error() -> None:
    assert within(10, lambda: 1) == 1
    with pytest.raises(KeyError):
        within(10, lambda: {}["a"])
    with pytest.raises(TimeoutError):
        within(-1, lambda: time.sleep(0.2))


def test_a_huge_integer_is_not_converted() -> None:
    """Python takes quadratic time for it; 4,300 digits are its own limit."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    with pytest.raises(InvalidData, match="digits"):
        parse_json(b"1" * 4_000_000)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_utime - before < 30
    assert math.isfinite(parse_json(b"1" * 40))


@pytest.mark.parametrize("read", [read_file, read_whole, open_regular])
def test_no_reader_waits_for_a_fifo_or_reads_a_device(read, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to(tmp_path / "fifo")
    for path in (tmp_path / "fifo", tmp_path / "link", Path("/dev/zero"), tmp_path):
        with pytest.raises(OSError, match=r"it is no regular file|it is a link"):
            within(60, lambda path=path: read(path))


def test_a_link_to_a_file_is_read_where_it_is_followed(tmp_path):
    (tmp_path / "file").write_bytes(b"text")
    (tmp_path / "link").symlink_to("file")

    assert read_file(tmp_path / "link") == read_whole(tmp_path / "link") == b"text"
    with open_regular(tmp_path / "link", follow=True) as file:
        assert file.read() == b"text"
    with pytest.raises(OSError, match="it is a link"):
        open_regular(tmp_path / "link")


@pytest.mark.parametrize("read", [read_object, load_json, lambda path: evaluation_data.read("texts", path)])
def test_a_fifo_in_the_place_of_a_file_of_a_model_or_run_is_an_error(read, tmp_path):
    os.mkfifo(tmp_path / "config.json")

    with pytest.raises(UserError, match="it is no regular file"):
        within(60, lambda: read(tmp_path / "config.json"))
