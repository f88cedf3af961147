"""Requests as they are read and answers as they are written: what cannot be answered is refused with its reason."""

import json
import struct
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workloads.serving import wire
from workloads.serving.model import Model, Tensor

NUMBERS = [name for name in wire.DTYPES if name != "BYTES"]

UNEVEN = "inputs.x.data: rows of different lengths, or of others than in the shape"
TOO_MUCH = "the body: got more than 65536 lists and objects, or 2097152 values, in JSON; send tensors as bytes"


def model(*inputs: Tensor) -> Model:
    tensors = inputs or (Tensor(name="x", datatype="FP32", shape=(-1, 2)),)
    outputs = tuple(tensor.model_copy(update={"name": f"{tensor.name}'"}) for tensor in tensors)
    return Model(name="m", version="1", runtime="onnx", files={}, inputs=tensors, outputs=outputs)


def tensor(**changes: Any) -> dict[str, Any]:
    values = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2.5], **changes}
    return {key: value for key, value in values.items() if value is not None}


def body(*inputs: dict[str, Any], **more: Any) -> bytes:
    return json.dumps({"inputs": list(inputs), **more}).encode()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "the body: Invalid JSON: EOF while parsing a value at line 1 column 0"),
        (b"\xff", "the body: Invalid JSON: expected value at line 1 column 1"),
        (b"[1]", "the body: Input should be an object"),
        (b"[" * 5000, "the body: Invalid JSON: recursion limit exceeded at line 1 column 202"),
        (b"{}", "inputs: Field required"),
        (body(), "inputs: List should have at least 1 item after validation, not 0"),
        (body(tensor(shape=[1, -2])), "inputs.0.shape.1: Input should be greater than or equal to 0"),
        (body(tensor(shape=[])), "inputs.0.shape: List should have at least 1 item after validation, not 0"),
        (body(tensor(name="z")), "inputs: got 'z'; m takes x, each once"),
        (body(tensor(), tensor()), "inputs: got 'x'; m takes x, each once"),
        (body(tensor(datatype="FP64")), "inputs.x: got FP64; it is FP32"),
        (body(tensor(shape=[1, 3])), "inputs.x: got the shape [1, 3]; it is [any, 2]"),
        (body(tensor(shape=[2])), "inputs.x: got the shape [2]; it is [any, 2]"),
        (body(tensor(data=[1])), "inputs.x.data: got 1 values; the shape [1, 2] has 2"),
        (body(tensor(data=[[1], [2, 3]])), f"{UNEVEN} [1, 2]"),
        (body(tensor(data=[[1, 2], 3])), f"{UNEVEN} [1, 2]"),
        (body(tensor(data=[[1, [2]]])), "inputs.x.data: not all of it is FP32"),
        (body(tensor(shape=[2, 2], data=[[1, 2, 3, 4]])), f"{UNEVEN} [2, 2]"),
        (body(tensor(shape=[2, 2], data=[[1, 2], 3])),
         "inputs.x.data: it is nested as the shape [2, 2] is, or not at all"),
        (body(tensor(data=["1", "2"])), "inputs.x.data: not all of it is FP32"),
        (body(tensor(data=[True, False])), "inputs.x.data: not all of it is FP32"),
        (body(tensor(data=[None, 1])), "inputs.x.data: not all of it is FP32"),
        (body(tensor(data=[{}, 1])), "inputs.x.data: not all of it is FP32"),
        (body(tensor(data=[2**200, 1])), "inputs.x.data: a number is too large for FP32, or none"),
        (body(tensor(data=[2**2000, 1])), "inputs.x.data: a number is too large for FP32, or none"),
        (body(tensor(shape=[10**30, 2])), "inputs.x: its shape has more values than a body can have"),
        (body(tensor(shape=[0, 10**30])), "inputs.x: its shape has more values than a body can have"),
        (body(tensor(name="z" * 10**6)), f"inputs: got {'z' * 64 + '…'!r}; m takes x, each once"),
        (body(tensor(data=None, parameters={"binary_data_size": 10**4000})),
         "inputs.x: binary_data_size is a huge number; 0 bytes are left"),
        (body(tensor(data=None, parameters={"binary_data_size": [[1]]})),
         "inputs.x: binary_data_size is a list; 0 bytes are left"),
        (b'{"inputs": [' + b"7," * 10**6 + b"7]}",
         "inputs: List should have at most 256 items after validation, not 1000001"),
        (b'{"more": [' + b"[]," * (1 << 16) + b"0]}", TOO_MUCH),
        (b'{"more": [' + b"0," * (1 << 21) + b"0]}", TOO_MUCH),
        (body(tensor(data=[1e39, 1])), "inputs.x.data: a number is too large for FP32, or none"),
        (body(tensor(data=[float("nan"), 1])), "inputs.x.data: a number is too large for FP32, or none"),
        (body(tensor(data=None)), "inputs.x: it has either data or the parameter binary_data_size"),
        (body(tensor(parameters={"binary_data_size": 8})),
         "inputs.x: it has either data or the parameter binary_data_size"),
        (body(tensor(data=None, parameters={"binary_data_size": 8})),
         "inputs.x: binary_data_size is 8; 0 bytes are left"),
        (body(tensor(data=None, parameters={"binary_data_size": "8"})),
         "inputs.x: binary_data_size is '8'; 0 bytes are left"),
        (body(tensor(shape=[0, 2], data=[])), "inputs: got 0 rows; a request has 1 to 4"),
        (body(tensor(shape=[5, 2], data=[0] * 10)), "inputs: got 5 rows; a request has 1 to 4"),
        (body(tensor(), outputs=[{"name": "z"}]), "outputs: got 'z'; m gives x'"),
        (body(tensor(), outputs=[{"name": "x'", "parameters": {"classification": 2}}]),
         "outputs.x'.parameters.classification: the server does not have this extension; take the classes from the "
         "output"),
        (body(tensor(), outputs=[{"name": "x'", "parameters": {"binary_data": 1}}]),
         "outputs.x'.parameters.binary_data: got 1; it is true or false"),
        (body(tensor(), parameters={"timeout": 0}),
         "parameters.timeout: got 0; it is a whole number of microseconds, above 0"),
        (body(tensor(), id=7), "id: Input should be a valid string"),
    ],
)  # fmt: skip
def test_what_cannot_be_answered_is_reported(content: bytes, expected: str) -> None:
    with pytest.raises(wire.MalformedRequest) as malformed:
        wire.read(content, None, model(), 4)
    assert str(malformed.value) == expected


@pytest.mark.parametrize(
    ("size", "tail", "json_bytes", "expected"),
    [
        (8, b"12345678", -1, "got -1; the body has"),
        (8, b"12345678", 10**6, "got 1000000; the body has"),
        (8, b"1234", None, "inputs.x: binary_data_size is 8; 4 bytes are left"),
        (4, b"1234", None, "inputs.x: got 4 bytes; FP32 of [1, 2] has 8"),
        (8, b"12345678+", None, "the body has 1 bytes more than its tensors"),
    ],
)
def test_bytes_that_do_not_fit_are_reported(size: int, tail: bytes, json_bytes: int | None, expected: str) -> None:
    head = body(tensor(data=None, parameters={"binary_data_size": size}))
    with pytest.raises(wire.MalformedRequest) as malformed:
        wire.read(head + tail, len(head) if json_bytes is None else json_bytes, model(), 4)
    assert expected in str(malformed.value)


@pytest.mark.parametrize("datatype", ["FP16", "FP32", "FP64"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 3])
def test_numbers_as_bytes_are_finite(datatype: str, value: float, place: int) -> None:
    array = np.zeros((2, 2), wire.DTYPES[datatype])
    array.flat[place] = value
    parameters = {"binary_data_size": array.nbytes}
    head = body(tensor(datatype=datatype, shape=[2, 2], data=None, parameters=parameters))
    of = model(Tensor(name="x", datatype=datatype, shape=(-1, 2)))  # type: ignore[arg-type]
    with pytest.raises(wire.MalformedRequest, match=r"^inputs\.x: a number is infinite, or none$"):
        wire.read(head + array.tobytes(), len(head), of, 4)


def test_a_deadline_has_an_end() -> None:
    assert wire.read(body(tensor(), parameters={"timeout": 10**400}), None, model(), 4).timeout_seconds == 1e9


def test_texts_may_have_any_number_of_brackets_and_commas() -> None:
    """
    What makes lists and values is counted outside of texts, whatever is escaped in them.
    """
    of, text = model(Tensor(name="x", datatype="BYTES", shape=(-1,))), '[{,"\\' * (1 << 17)
    asked = wire.read(body(tensor(datatype="BYTES", shape=[1], data=[text])), None, of, 4)

    assert asked.arrays["x"].tolist() == [text]


def test_what_is_read_takes_no_more_memory_than_its_shape_has() -> None:
    """
    Of one long text and many short ones NumPy makes texts of the same length: 225 kB took 4 GB.
    """
    data = ["x" * 100_000, *[""] * 40_000]
    content = body(tensor(shape=[1, len(data)], data=data))
    of = model(Tensor(name="x", datatype="FP32", shape=(-1, -1)))
    tracemalloc.start()
    try:
        with pytest.raises(wire.MalformedRequest, match=r"inputs\.x\.data: not all of it is FP32"):
            wire.read(content, None, of, 4)
        assert tracemalloc.get_traced_memory()[1] < 20 * len(content)
    finally:
        tracemalloc.stop()


def test_integers_have_their_limits() -> None:
    of_bytes = model(Tensor(name="x", datatype="UINT8", shape=(-1, 2)))
    for data, message in (([0, 256], "UINT8 goes from 0 to 255"), ([-1, 0], "UINT8 goes"), ([0, 1.5], "not all of it")):
        with pytest.raises(wire.MalformedRequest, match=message):
            wire.read(body(tensor(datatype="UINT8", data=data)), None, of_bytes, 4)


def test_all_inputs_have_the_same_rows() -> None:
    both = model(Tensor(name="x", datatype="FP32", shape=(-1,)), Tensor(name="y", datatype="FP32", shape=(-1,)))
    content = body(tensor(shape=[2], data=[1, 2]), tensor(name="y", shape=[1], data=[1]))
    with pytest.raises(wire.MalformedRequest, match="their first dimensions differ"):
        wire.read(content, None, both, 4)


@pytest.mark.parametrize("datatype", NUMBERS)
def test_a_tensor_is_the_same_as_json_and_as_bytes(datatype: str) -> None:
    dtype = wire.DTYPES[datatype]
    array = np.array([[0, 1], [1, 0], [1, 1]], dtype)
    if dtype.kind in "iu":
        array[0] = np.iinfo(dtype).min, np.iinfo(dtype).max
    report = tensor(datatype=datatype, shape=[3, 2], data=array.tolist())
    head = body(tensor(datatype=datatype, shape=[3, 2], data=None, parameters={"binary_data_size": array.nbytes}))
    of = model(Tensor(name="x", datatype=datatype, shape=(-1, 2)))  # type: ignore[arg-type]

    for got in (wire.read(body(report), None, of, 4), wire.read(head + array.tobytes(), len(head), of, 4)):
        assert got.rows == 3
        assert got.arrays["x"].dtype == dtype
        np.testing.assert_array_equal(got.arrays["x"], array)


def test_texts_go_both_ways() -> None:
    of = model(Tensor(name="x", datatype="BYTES", shape=(-1,)))
    texts = ["", "räck", "42"]
    packed = b"".join(struct.pack("<I", len(text.encode())) + text.encode() for text in texts)
    head = body(tensor(datatype="BYTES", shape=[3], data=None, parameters={"binary_data_size": len(packed)}))

    asked = wire.read(head + packed, len(head), of, 4)
    again = wire.read(body(tensor(datatype="BYTES", shape=[3], data=texts)), None, of, 4)

    assert asked.arrays["x"].tolist() == again.arrays["x"].tolist() == texts
    assert wire._bytes(asked.arrays["x"], "BYTES") == packed
    for bad, message in ((packed[:-1], "ends behind"), (b"\x01\0\0\0\xff" + packed[4:-2], "UTF-8|ends behind")):
        head = body(tensor(datatype="BYTES", shape=[3], data=None, parameters={"binary_data_size": len(bad)}))
        with pytest.raises(wire.MalformedRequest, match=message):
            wire.read(head + bad, len(head), of, 4)


def test_an_answer_says_which_model_gave_it() -> None:
    asked = wire.read(body(tensor(), id="7"), None, model(), 4)
    content, json_bytes = wire.write(asked, {"x'": np.array([[1, np.inf]], np.float32)}, model())

    assert json_bytes is None
    assert json.loads(content) == {
        "id": "7", "model_name": "m", "model_version": "1",
        "outputs": [{"name": "x'", "datatype": "FP32", "shape": [1, 2], "data": [1.0, None]}],
    }  # fmt: skip


def test_parameters_of_null_are_none() -> None:
    """KServe's own codecs write the optional fields that they have no value for."""
    of = model(Tensor(name="x", datatype="FP32", shape=(-1, 2)))
    names = [{"name": each.name, "parameters": None} for each in of.outputs]
    content = body({**tensor(), "parameters": None}, id=None, parameters=None, outputs=names)
    assert wire.read(content, None, of, 4).arrays["x"].tolist() == [[1, 2.5]]


def test_an_empty_list_of_outputs_asks_for_all() -> None:
    wanted = wire.read(body(tensor()), None, model(), 4).outputs
    assert wire.read(body(tensor(), outputs=[]), None, model(), 4).outputs == wanted == {"x'": False}


def test_an_answer_as_bytes_says_how_many() -> None:
    asked = wire.read(body(tensor(), parameters={"binary_data_output": True}), None, model(), 4)
    array = np.array([[1, np.inf]], np.float32)
    content, json_bytes = wire.write(asked, {"x'": array}, model())

    assert json_bytes
    assert json.loads(content[:json_bytes])["outputs"][0]["parameters"] == {"binary_data_size": 8}
    assert content[json_bytes:] == array.tobytes()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)
tensors = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["x", "y", ""]),
        "datatype": st.sampled_from([*wire.DTYPES, "FP31"]),
        "shape": st.lists(st.integers(-1, 3) | st.integers(), max_size=3) | json_values,
    },
    optional={
        "data": json_values,
        "parameters": st.dictionaries(st.sampled_from(["binary_data_size", "other"]), json_values | st.integers(0, 40)),
    },
)


@settings(max_examples=500, deadline=None)
@given(
    st.lists(tensors, max_size=2),
    st.dictionaries(st.sampled_from(["id", "outputs", "parameters"]), json_values),
    st.binary(max_size=40),
    st.integers(-5, 5),
    st.sampled_from([*wire.DTYPES]),
)
def test_whatever_comes_is_read_or_refused(
    inputs: list[Any], more: dict[str, Any], tail: bytes, off: int, datatype: str
) -> None:
    """Nothing but Malformed is ever raised: anything else would be our fault in the eyes of the client."""
    of = model(Tensor(name="x", datatype=datatype, shape=(-1, -1)))  # type: ignore[arg-type]
    head = json.dumps({"inputs": inputs, **more}).encode("utf-8", "surrogatepass")
    try:
        asked = wire.read(head + tail, len(head) + off, of, 4)
    except wire.MalformedRequest as malformed:
        assert str(malformed)
    else:
        assert asked.arrays["x"].ndim == 2
