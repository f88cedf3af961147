"""Headers of GGUF files: each is taken or refused with a reason, within bounds, before llama.cpp reads it."""

import os
import struct
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from tests.support.fuzz.bounds import cases, limit_memory
from workloads.errors import UserError
from workloads.serving import gguf_header

MEMORY_BYTES = 128 << 20
SIZES = (0, 1, 3, 1 << 16, 1 << 31, (1 << 62) + 1, (1 << 64) - 1)

sizes = st.integers(0, 5) | st.sampled_from(SIZES)
names = st.binary(max_size=6)


def string(content: bytes, size: int | None = None) -> bytes:
    """Return *content* behind its length, or behind another one."""
    return struct.pack("<Q", len(content) if size is None else size) + content


def header(version: int, keys: list[bytes], tensors: list[bytes], counts: tuple[int, int] | None = None) -> bytes:
    """Return a header with *keys* and *tensors*.

    Args:
        counts: How many tensors and keys it says that it has; None: as many as it has.
    """
    written = (len(tensors), len(keys)) if counts is None else counts
    return b"GGUF" + struct.pack("<IQQ", version, *written) + b"".join((*keys, *tensors))


strings = st.builds(string, names, st.none() | st.none() | sizes)
scalars = st.tuples(st.integers(0, 13), st.binary(max_size=8)).map(lambda pair: struct.pack("<I", pair[0]) + pair[1])
texts = strings.map(lambda text: struct.pack("<I", 8) + text)
arrays = st.tuples(st.integers(0, 13), sizes, st.lists(strings | st.binary(max_size=8), max_size=4)).map(
    lambda array: struct.pack("<IIQ", 9, *array[:2]) + b"".join(array[2])
)
keys = st.builds(lambda name, value: name + value, strings, scalars | texts | arrays)
tensors = st.builds(
    lambda name, shape, count, kind, offset: (
        name
        + struct.pack("<I", len(shape) if count is None else count)
        + b"".join(struct.pack("<Q", size) for size in shape)
        + struct.pack("<IQ", kind, offset)
    ),
    strings,
    st.lists(sizes, max_size=5),
    st.none() | st.sampled_from([0, 5, 1 << 31]),
    st.integers(0, 40),
    sizes,
)
headers = st.builds(
    lambda version, keys, tensors, counts, cut, tail: (header(version, keys, tensors, counts) + tail)[:cut],
    st.sampled_from([3, 3, 3, 2, 1, 1 << 31]),
    st.lists(keys, max_size=3),
    st.lists(tensors, max_size=3),
    st.none() | st.none() | st.tuples(sizes, sizes),
    st.none() | st.none() | st.integers(0, 200),
    st.binary(max_size=40),
)
files = headers | headers | st.binary(max_size=60)


def run(count: int, number: int) -> None:
    """Judge *count* files.

    Args:
        number: The seed.
    """
    with tempfile.TemporaryDirectory() as directory, limit_memory(MEMORY_BYTES):
        path = Path(directory, "model.gguf")

        def judge(content: Any) -> None:
            path.write_bytes(content)
            try:
                gguf_header.check(path)
            except UserError as error:
                assert len(str(error)) < 1000
            else:
                assert content[:4] == b"GGUF"
                assert os.path.getsize(path) >= 24  # noqa: PTH202

        cases(count, number, files, judge)
