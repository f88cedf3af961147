"""Bodies of requests to a model server: JSON, tensors as bytes behind it, and chats.

Whatever comes is read or refused: no other exception, no more memory than a fixed share of the largest body, no hang.
"""

import json
from typing import Any

from hypothesis import strategies as st

from tests.support.fuzz.bounds import cases, limit_memory
from workloads.serving import wire
from workloads.serving.answers import HttpError
from workloads.serving.model import Model, Tensor
from workloads.serving.openai.body import read
from workloads.serving.openai.requests import ChatRequest, TextRequest

MEMORY_BYTES = 512 << 20
"""Memory that one body may take. The largest body has 1 MiB; the limits on values hold for any size."""
KINDS = (*wire.DTYPES, "FP31")
UNITS = (
    "[],",
    "{},",
    '"",',
    "0,",
    "[[[[[[[]]]]]]],",
    '{"a":[]},',
    "1e999,",
    '"\\"[",',
    "-0.0,",
    "null,",
    "\\",
    '"',
    "[",
)

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**30, -(10**30), 10**4299, 2**63, 2**64, -(2**63) - 1, 1 << 31, 1e308, 5e-324])
    | st.floats()
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
sizes = st.integers(-1, 3) | st.sampled_from([1 << 31, 1 << 62, 10**30])
tensors = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["x", "x", "x", "y", ""]),
        "datatype": st.sampled_from(KINDS),
        "shape": st.lists(sizes, min_size=1, max_size=3) | values,
    },
    optional={
        "data": values | st.lists(st.integers(-300, 300) | st.floats() | st.text(max_size=3), max_size=9),
        "parameters": st.dictionaries(st.sampled_from(["binary_data_size", "other"]), values | st.integers(-2, 40)),
    },
)
requests = st.builds(
    lambda inputs, more: {**more, "inputs": inputs},
    st.lists(tensors, min_size=1, max_size=2),
    st.dictionaries(st.sampled_from(["id", "outputs", "parameters", "more"]), values, max_size=2),
)
chats = st.fixed_dictionaries(
    {"model": st.sampled_from(["m", "n"])},
    optional={
        "messages": st.lists(st.fixed_dictionaries({"role": st.just("user") | values, "content": values}), max_size=3)
        | values,
        "prompt": values, "stop": values, "max_tokens": values, "stream": values, "seed": values, "more": values,
    },
)  # fmt: skip
texts = (requests | chats).map(lambda value: json.dumps(value).encode("utf-8", "surrogatepass"))
long = st.builds(
    lambda head, unit, count: (head + unit * count).rstrip(",").encode() + b"]}]}",
    st.sampled_from(['{"inputs":[{"name":"x","datatype":"FP32","shape":[1,9],"data":[', '{"inputs":[', '{"more":[']),
    st.sampled_from(UNITS),
    st.integers(0, 40_000),
)


@st.composite
def broken_bodies(draw: st.DrawFn) -> bytes:
    """Return a text some of whose bytes are others, or are left out."""
    text = bytearray(draw(texts))
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(text)))
        text[place : place + draw(st.integers(0, 4))] = draw(
            st.binary(max_size=4) | st.sampled_from([b'"', b"[", b"\\"])
        )
    return bytes(text)


bodies = st.tuples(
    st.one_of(texts, texts, texts, broken_bodies(), st.binary(max_size=40), long),
    st.binary(max_size=40),
    st.sampled_from([None, 0, 0, 0, -1, 1, 10**18]),
    st.sampled_from([*wire.DTYPES]),
    st.sampled_from([(-1, -1), (-1,), (1, 2), (-1, 0)]),
)
"""Text, what follows it, how far the header is off (None: there is none), and which tensor the model takes."""


def judge(body: tuple[bytes, bytes, int | None, Any, tuple[int, ...]]) -> None:
    text, tail, off, datatype, shape = body
    tensor = Tensor(name="x", datatype=datatype, shape=shape)
    model = Model(name="m", version="1", runtime="onnx", files={}, inputs=(tensor,), outputs=(tensor,))
    try:
        asked = wire.read(text + tail, None if off is None else len(text) + off, model, 4)
    except wire.MalformedRequest as malformed:
        assert 0 < len(str(malformed)) < 4096
    else:
        assert asked.arrays["x"].ndim == len(shape)
        assert asked.arrays["x"].dtype == wire.DTYPES[datatype]
        wire.write(asked, asked.arrays, model)
    for kind in (ChatRequest, TextRequest):
        try:
            read(text, kind, model).runtime_request()
        except HttpError as refused:
            assert 0 < len(str(refused)) < 4096


def run(count: int, number: int) -> None:
    """Judge *count* bodies.

    Args:
        number: The seed.
    """
    with limit_memory(MEMORY_BYTES):
        cases(count, number, bodies, judge)
