"""Requests and answers of KServe's protocol, version 2, over REST: JSON, followed by tensors as bytes.

Source: the Open Inference Protocol, and its binary tensor data extension.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, NonNegativeInt, ValidationError
from pydantic_core import to_json

from workloads.serving.batcher import Arrays
from workloads.serving.model import Datatype, Model, Tensor
from workloads.serving.offload import check_json

HEADER = "inference-header-content-length"
"""The HTTP header with the bytes of JSON in a body; tensors follow them."""
DTYPES: Mapping[str, np.dtype[Any]] = {
    "BOOL": np.dtype("?"), "UINT8": np.dtype("u1"), "UINT16": np.dtype("<u2"), "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"), "INT8": np.dtype("i1"), "INT16": np.dtype("<i2"), "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"), "FP16": np.dtype("<f2"), "FP32": np.dtype("<f4"), "FP64": np.dtype("<f8"),
    "BYTES": np.dtype("O"),
}  # fmt: skip
_KINDS: Mapping[str, set[type]] = {"b": {bool}, "u": {int}, "i": {int}, "f": {int, float}, "O": {str}}
"""The JSON types of each kind of datatype: 1.5 is no integer, and true is no number."""
MAX_VALUES = 1 << 31
"""The most values of one tensor: no body has room for more."""
MOST_TENSORS = 256
"""The most inputs, and the most outputs, of a request."""
_CHUNK = 1 << 14
"""Values that one step converts: other threads run between two steps."""


class MalformedRequest(Exception):
    """A request that cannot be parsed; the message goes to its sender."""


Parameters = Annotated[dict[str, Any], BeforeValidator(lambda value: {} if value is None else value)]
"""Parameters of a request or tensor; some clients write null for none."""


class LenientBody(BaseModel):
    """A body whose unknown fields are ignored: the protocol asks for that, because extensions add fields."""

    model_config = ConfigDict(strict=True, frozen=True)


class InputTensor(LenientBody):
    name: str
    datatype: Datatype
    shape: list[NonNegativeInt] = Field(min_length=1, max_length=8)
    data: list[Any] | None = None
    """The values, flat or nested as the shape; None if they follow as bytes."""
    parameters: Parameters = {}


class OutputTensor(LenientBody):
    name: str
    parameters: Parameters = {}


class InferRequest(LenientBody):
    id: str | None = Field(default=None, max_length=256)
    inputs: list[InputTensor] = Field(min_length=1, max_length=MOST_TENSORS)
    outputs: list[OutputTensor] | None = Field(default=None, max_length=MOST_TENSORS)
    parameters: Parameters = {}


@dataclass(frozen=True, slots=True)
class InferenceRequest:
    """A parsed request."""

    id: str | None
    arrays: Arrays
    rows: int
    outputs: Mapping[str, bool]
    """Names of the requested outputs, and whether each is sent as bytes."""
    timeout_seconds: float | None
    """Seconds that the sender waits, from the parameter ``timeout`` (microseconds)."""


def read(body: bytes, json_bytes: int | None, model: Model, max_batch: int) -> InferenceRequest:
    """Return the request in *body* to *model*.

    Args:
        json_bytes: Bytes of JSON in *body*, if tensors follow; None: all of it is JSON.

    Raises:
        MalformedRequest: *body* is no valid request to this model.
    """
    if json_bytes is not None and not 0 <= json_bytes <= len(body):
        raise MalformedRequest(f"{HEADER}: got {json_bytes}; the body has {len(body)} bytes")
    end = len(body) if json_bytes is None else json_bytes
    head = body[:end]
    if too_much := check_json(head):
        raise MalformedRequest(f"the body: {too_much}")
    try:
        request = InferRequest.model_validate_json(head)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False, include_input=False)[:8]
        raise MalformedRequest("; ".join(_format_problem(problem) for problem in problems)) from None
    arrays = _arrays(request, memoryview(body)[end:], model)
    rows = _rows(arrays, model, max_batch)
    return InferenceRequest(request.id, arrays, rows, _outputs(request, model), _timeout(request))


def _format_problem(problem: Any) -> str:
    where = ".".join(map(str, problem["loc"]))[:200] or "the body"
    return f"{where}: {problem['msg']}"


def _arrays(request: InferRequest, tail: memoryview, model: Model) -> dict[str, np.ndarray]:
    expected = {tensor.name: tensor for tensor in model.inputs}
    arrays: dict[str, np.ndarray] = {}
    for tensor in request.inputs:
        if tensor.name not in expected or tensor.name in arrays:
            raise MalformedRequest(
                f"inputs: got {_format_value(tensor.name)}; {model.name} takes {', '.join(expected)}, each once"
            )
        _check(tensor, expected[tensor.name])
        size = tensor.parameters.get("binary_data_size")
        if (size is None) == (tensor.data is None):
            raise MalformedRequest(f"inputs.{tensor.name}: it has either data or the parameter binary_data_size")
        if tensor.data is not None:
            arrays[tensor.name] = _array_from_json(tensor, tensor.data)
            continue
        if type(size) is not int or not 0 <= size <= len(tail):
            raise MalformedRequest(
                f"inputs.{tensor.name}: binary_data_size is {_format_value(size)}; {len(tail)} bytes are left"
            )
        arrays[tensor.name], tail = _array_from_bytes(tensor, tail[:size]), tail[size:]
    if missing := expected.keys() - arrays.keys():
        raise MalformedRequest(f"inputs: {', '.join(sorted(missing))} missing")
    if len(tail):
        raise MalformedRequest(f"the body has {len(tail)} bytes more than its tensors")
    return arrays


def _check(tensor: InputTensor, expected: Tensor) -> None:
    if tensor.datatype != expected.datatype:
        raise MalformedRequest(f"inputs.{tensor.name}: got {tensor.datatype}; it is {expected.datatype}")
    if prod(size for size in tensor.shape if size) > MAX_VALUES:
        raise MalformedRequest(f"inputs.{tensor.name}: its shape has more values than a body can have")
    fits = len(tensor.shape) == len(expected.shape) and all(
        size in (-1, given) for given, size in zip(tensor.shape, expected.shape, strict=True)
    )
    if not fits:
        shape = ", ".join("any" if size == -1 else str(size) for size in expected.shape)
        raise MalformedRequest(f"inputs.{tensor.name}: got the shape {tensor.shape}; it is [{shape}]")


def _array_from_json(tensor: InputTensor, data: list[Any]) -> np.ndarray:
    """Return the array of a tensor in JSON; its types and its size are checked before NumPy allocates an array."""
    where, dtype = f"inputs.{tensor.name}.data", DTYPES[tensor.datatype]
    values = _flatten(where, data, tensor.shape)
    if not set(map(type, values)) <= _KINDS[dtype.kind]:
        raise MalformedRequest(
            f"{where}: {'BYTES are strings' if dtype.kind == 'O' else f'not all of it is {tensor.datatype}'}"
        )
    if dtype.kind in "iu" and values:
        limits = np.iinfo(dtype)
        if min(values) < limits.min or max(values) > limits.max:
            raise MalformedRequest(f"{where}: {tensor.datatype} goes from {limits.min} to {limits.max}")
    try:
        array = _array(values, dtype)
    except OverflowError:  # an integer larger than any float
        array = np.array([np.inf])
    if dtype.kind == "f" and not np.isfinite(array).all():
        raise MalformedRequest(f"{where}: a number is too large for {tensor.datatype}, or none")
    return array.reshape(tensor.shape)


def _flatten(where: str, data: list[Any], shape: list[int]) -> list[Any]:
    """Return the values of *data*, which is flat or nested as *shape* is.

    Raises:
        MalformedRequest: *data* is neither, or has another number of values.
    """
    values = data
    if any(type(value) is list for value in data):
        values = [data]
        for size in shape:
            if any(type(part) is not list for part in values):
                raise MalformedRequest(f"{where}: it is nested as the shape {shape} is, or not at all")
            if any(len(part) != size for part in values):
                raise MalformedRequest(f"{where}: rows of different lengths, or of others than in the shape {shape}")
            values = [value for part in values for value in part]
    _check_count(where, len(values), shape)
    return values


def _array(values: list[Any], dtype: np.dtype[Any]) -> np.ndarray:
    array = np.empty(len(values), dtype)
    wide = np.dtype(np.float64) if dtype.kind == "f" else dtype
    with np.errstate(over="ignore", invalid="ignore"):
        for first in range(0, len(values), _CHUNK):
            part = values[first : first + _CHUNK]
            array[first : first + _CHUNK] = np.fromiter(part, wide, len(part))
    return array


def _array_from_bytes(tensor: InputTensor, content: memoryview) -> np.ndarray:
    where, dtype = f"inputs.{tensor.name}", DTYPES[tensor.datatype]
    if tensor.datatype == "BYTES":
        texts = _texts(where, content, prod(tensor.shape))
        _check_count(where, len(texts), tensor.shape)
        return _array(texts, dtype).reshape(tensor.shape)
    expected = prod(tensor.shape) * dtype.itemsize
    if len(content) != expected:
        raise MalformedRequest(f"{where}: got {len(content)} bytes; {tensor.datatype} of {tensor.shape} has {expected}")
    if tensor.datatype == "BOOL" and np.frombuffer(content, np.uint8).max(initial=0) > 1:
        raise MalformedRequest(f"{where}: a BOOL is a byte of 0 or 1")
    array = np.frombuffer(content, dtype)
    # NumPy's extremes are NaN if any value is, and take no memory for each value
    if dtype.kind == "f" and array.size and not (np.isfinite(array.min()) and np.isfinite(array.max())):
        raise MalformedRequest(f"{where}: a number is infinite, or none")
    return array.reshape(tensor.shape)


def _texts(where: str, content: memoryview, limit: int) -> list[str]:
    """Return the texts in *content*, each after its length in 4 little-endian bytes; at most *limit* and one more."""
    texts: list[str] = []
    begin = 0
    while begin < len(content) and len(texts) <= limit:
        end = begin + 4 + int.from_bytes(content[begin : begin + 4], "little")
        if begin + 4 > len(content) or end > len(content):
            raise MalformedRequest(f"{where}: a text ends behind the tensor")
        try:
            texts.append(str(content[begin + 4 : end], "utf-8"))
        except UnicodeDecodeError:
            raise MalformedRequest(f"{where}: a text is not UTF-8") from None
        begin = end
    return texts


def _format_value(value: object) -> str:
    """Return *value* for a message, shortened."""
    if isinstance(value, str):
        return repr(value if len(value) <= 64 else f"{value[:64]}…")
    if value is None or isinstance(value, bool | float) or (isinstance(value, int) and abs(value) < 1 << 64):
        return repr(value)
    return "a huge number" if isinstance(value, int) else f"a {type(value).__name__}"


def _check_count(where: str, count: int, shape: list[int]) -> None:
    if count != prod(shape):
        raise MalformedRequest(f"{where}: got {count} values; the shape {shape} has {prod(shape)}")


def _rows(arrays: Arrays, model: Model, max_batch: int) -> int:
    if not model.batches:
        return 1
    counts = {len(array) for array in arrays.values()}
    if len(counts) != 1:
        raise MalformedRequest(f"inputs: their first dimensions differ: {sorted(counts)}")
    rows = counts.pop()
    if not 1 <= rows <= max_batch:
        raise MalformedRequest(f"inputs: got {rows} rows; a request has 1 to {max_batch}")
    return rows


def _outputs(request: InferRequest, model: Model) -> dict[str, bool]:
    as_bytes = request.parameters.get("binary_data_output", False)
    names = [tensor.name for tensor in model.outputs]
    if not request.outputs:  # the message of gRPC has one form for none and an empty list
        return {name: _flag("parameters.binary_data_output", as_bytes) for name in names}
    expected: dict[str, bool] = {}
    for output in request.outputs:
        if output.name not in names:
            raise MalformedRequest(f"outputs: got {_format_value(output.name)}; {model.name} gives {', '.join(names)}")
        if output.parameters.get("classification"):
            where = f"outputs.{output.name}.parameters.classification"
            raise MalformedRequest(
                f"{where}: the server does not have this extension; take the classes from the output"
            )
        where = f"outputs.{output.name}.parameters.binary_data"
        expected[output.name] = _flag(where, output.parameters.get("binary_data", as_bytes))
    return expected


def _flag(where: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise MalformedRequest(f"{where}: got {_format_value(value)}; it is true or false")
    return value


def _timeout(request: InferRequest) -> float | None:
    value = request.parameters.get("timeout")
    if value is None:
        return None
    if type(value) is not int or value <= 0:
        raise MalformedRequest(
            f"parameters.timeout: got {_format_value(value)}; it is a whole number of microseconds, above 0"
        )
    return min(value, 10**15) / 1e6


def write(request: InferenceRequest, outputs: Arrays, model: Model) -> tuple[bytes, int | None]:
    """Return the body of an answer, and the bytes of its JSON if tensors follow.

    NaN and infinity become null in JSON; in bytes they stay as they are.
    """
    tensors: list[dict[str, Any]] = []
    tail: list[bytes] = []
    types = {tensor.name: tensor.datatype for tensor in model.outputs}
    for name, as_bytes in request.outputs.items():
        array = outputs[name]
        tensor: dict[str, Any] = {"name": name, "datatype": types[name], "shape": array.shape}
        if as_bytes:
            content = _bytes(array, types[name])
            tail.append(content)
            tensor["parameters"] = {"binary_data_size": len(content)}
        else:
            tensor["data"] = array.ravel().tolist()
        tensors.append(tensor)
    response = {"model_name": model.name, "model_version": model.version, "outputs": tensors}
    if request.id is not None:
        response["id"] = request.id
    head = to_json(response, inf_nan_mode="null")
    return (b"".join((head, *tail)), len(head)) if tail else (head, None)


def _bytes(array: np.ndarray, datatype: str) -> bytes:
    if datatype != "BYTES":
        content: bytes = np.ascontiguousarray(array, DTYPES[datatype]).tobytes()
        return content
    texts = [text.encode() if isinstance(text, str) else bytes(text) for text in array.ravel().tolist()]
    return b"".join(len(text).to_bytes(4, "little") + text for text in texts)
