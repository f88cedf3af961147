"""Writing of a GGUF file.

Source: the GGUF specification of ggml, docs/gguf.md, version 3.
"""

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

Value = bool | int | float | str | Sequence[str] | Sequence[int]
ALIGNMENT = 32
"""Tensors begin at multiples of this, by the specification's default."""
TENSOR_TYPES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 30}
_UINT32, _INT32, _FLOAT32, _BOOL, _STRING, _ARRAY = 4, 5, 6, 7, 8, 9


def write(path: Path, values: Mapping[str, Value], tensors: Mapping[str, Tensor]) -> None:
    """Write the metadata *values* and the *tensors* to the file *path*."""
    head = [b"GGUF", struct.pack("<IQQ", 3, len(tensors), len(values))]
    head += [_string(key) + _typed(value) for key, value in values.items()]
    offset = 0
    for name, tensor in tensors.items():
        sizes = tensor.shape[::-1]  # the fastest first
        places = struct.pack(f"<I{len(sizes)}QIQ", len(sizes), *sizes, TENSOR_TYPES[tensor.dtype], offset)
        head.append(_string(name) + places)
        offset += tensor.nbytes + _padding(tensor.nbytes)
    content = b"".join(head)
    with path.open("wb") as file:
        file.write(content + bytes(_padding(len(content))))
        for tensor in tensors.values():
            file.write(memoryview(tensor.detach().contiguous().view(torch.uint8).numpy()).cast("B"))
            file.write(bytes(_padding(tensor.nbytes)))


def _padding(size: int) -> int:
    return -size % ALIGNMENT


def _string(text: str) -> bytes:
    content = text.encode()
    return struct.pack("<Q", len(content)) + content


def _typed(value: Any) -> bytes:
    """Return the type of *value* and its content."""
    if isinstance(value, bool):
        return struct.pack("<I?", _BOOL, value)
    if isinstance(value, int):
        return struct.pack("<II", _UINT32, value)
    if isinstance(value, float):
        return struct.pack("<If", _FLOAT32, value)
    if isinstance(value, str):
        return struct.pack("<I", _STRING) + _string(value)
    if value and isinstance(value[0], int):
        return struct.pack(f"<IIQ{len(value)}i", _ARRAY, _INT32, len(value), *value)
    return struct.pack("<IIQ", _ARRAY, _STRING, len(value)) + b"".join(map(_string, value))
