"""Memory that holds a state exactly as its file will: the safetensors format, with room for every tensor.

It is allocated and touched once. The first touch of a page costs more than copying into it, so this is what makes a
snapshot short. It has no name in any filesystem (memfd), and the process that writes it to the drive shares it.
"""

import errno
import json
import mmap
import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from workloads.checkpoint.disk import PAGE
from workloads.checkpoint.tree import BadState

FORMATS = {
    # torch's names, and those of safetensors
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint8": "U8",
    "bool": "BOOL",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
}

_MADV_POPULATE_WRITE = 23
"""Source: madvise(2)."""


def header(tensors: Mapping[str, Any]) -> tuple[bytes, dict[str, int]]:
    """Return the head of the file, and where in the file each tensor begins.

    Tensors of wider numbers come first, and the head is a multiple of 8 bytes: so each number stands at a multiple of
    its own size. Source: the safetensors format, "Format".

    Raises:
        BadState: a tensor is of a sort that the format has not.
    """
    described: dict[str, Any] = {}
    offsets, end = {}, 0
    for name, tensor in sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0])):
        format = FORMATS.get(str(tensor.dtype).removeprefix("torch."))
        if format is None:
            got = f"got a tensor of {tensor.dtype}"
            raise BadState(f"state/{name}", got, f"safetensors has {', '.join(FORMATS)}", "Convert it")
        size = tensor.numel() * tensor.element_size()
        described[name] = {"dtype": format, "shape": list(tensor.shape), "data_offsets": [end, end + size]}
        offsets[name] = end
        end += size
    text = json.dumps(described, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    head = len(text).to_bytes(8, "little") + text
    return head, {name: len(head) + offset for name, offset in offsets.items()}


def _touch(memory: mmap.mmap, descriptor: int, size: int) -> None:
    """Give *memory* its pages now; without enough of them, a later write would end the process with SIGBUS."""
    try:
        memory.madvise(_MADV_POPULATE_WRITE)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        os.posix_fallocate(descriptor, 0, size)  # before Linux 5.14; the first save then still maps them


class Snapshot:
    """Room for the tensors of one state, and for others of the same names, types and shapes."""

    def __init__(self, head: bytes, offsets: Mapping[str, int], tensors: Mapping[str, Any]) -> None:
        """
        Raises:
            OSError: there is no memory for it.
        """
        self.head = head
        self.bytes = len(head) + sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
        self.descriptor = os.memfd_create("checkpoint")
        self._places: dict[str, Any] = {}
        rooms = -(-self.bytes // PAGE) * PAGE
        os.ftruncate(self.descriptor, rooms)
        self._memory = mmap.mmap(self.descriptor, rooms)
        with suppress(OSError):  # a kernel without huge pages for shared memory
            self._memory.madvise(mmap.MADV_HUGEPAGE)
        try:
            _touch(self._memory, self.descriptor, rooms)
        except OSError:
            self.close()
            raise
        self._memory[: len(head)] = head
        self._places = {name: self._place(offsets[name], tensor) for name, tensor in tensors.items()}

    def _place(self, offset: int, tensor: Any) -> Any:
        import torch

        if not tensor.numel():
            return torch.empty(tensor.shape, dtype=tensor.dtype)
        flat = torch.frombuffer(self._memory, dtype=tensor.dtype, count=tensor.numel(), offset=offset)
        return flat.view(tensor.shape)

    def fill(self, tensors: Mapping[str, Any]) -> None:
        """Copy *tensors*; when this returns, they may be changed."""
        devices = set()
        for name, tensor in tensors.items():
            place = self._places[name]
            place.copy_(tensor.detach(), non_blocking=True)
            devices.add(tensor.device)
        for device in devices:
            if device.type == "cuda":
                import torch

                torch.cuda.synchronize(device)

    def close(self) -> None:
        """Give the memory back, once its other user has ended too."""
        self._places = {}
        self._memory.close()
        os.close(self.descriptor)
