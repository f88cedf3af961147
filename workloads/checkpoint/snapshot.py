"""Memory for the snapshot of a state, in the layout of its safetensors file.

The memory is allocated and touched once, which makes a snapshot short: the first touch of a page costs more than a copy
into it. It is a memfd, without a name in a filesystem, and the background process shares it.
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
from workloads.errors import Diagnostic

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


def build_header(tensors: Mapping[str, Any]) -> tuple[bytes, dict[str, int]]:
    """Return the header of the file, and the offset of each tensor in the file.

    Tensors of wider numbers come first, and the header is a multiple of 8 bytes, so each number is aligned to its size.
    Source: the safetensors format, "Format".

    Raises:
        BadState: The format does not support the type of a tensor.
    """
    described: dict[str, Any] = {}
    offsets, end = {}, 0
    for name, tensor in sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0])):
        format = FORMATS.get(str(tensor.dtype).removeprefix("torch."))
        if format is None:
            problem, expected = f"safetensors cannot store a tensor of {tensor.dtype}", f"one of {', '.join(FORMATS)}"
            raise BadState(Diagnostic(f"state/{name}", problem, expected, "Convert the tensor"))
        size = tensor.numel() * tensor.element_size()
        described[name] = {"dtype": format, "shape": list(tensor.shape), "data_offsets": [end, end + size]}
        offsets[name] = end
        end += size
    text = json.dumps(described, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    head = len(text).to_bytes(8, "little") + text
    return head, {name: len(head) + offset for name, offset in offsets.items()}


def _allocate_pages(memory: mmap.mmap, descriptor: int, size: int) -> None:
    """Allocate the pages of *memory* now; if some are missing, a later write ends the process with SIGBUS."""
    try:
        memory.madvise(_MADV_POPULATE_WRITE)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        os.posix_fallocate(descriptor, 0, size)  # before Linux 5.14; the first save then still maps them


class Snapshot:
    """Memory for the tensors of one state, and of later states with the same names, types and shapes."""

    def __init__(self, head: bytes, offsets: Mapping[str, int], tensors: Mapping[str, Any]) -> None:
        """
        Raises:
            OSError: There is not enough memory.
        """
        self.head = head
        self.bytes = len(head) + sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
        self.descriptor = os.memfd_create("checkpoint")
        self._views: dict[str, Any] = {}
        page_bytes = -(-self.bytes // PAGE) * PAGE
        os.ftruncate(self.descriptor, page_bytes)
        self._memory = mmap.mmap(self.descriptor, page_bytes)
        with suppress(OSError):  # a kernel without huge pages for shared memory
            self._memory.madvise(mmap.MADV_HUGEPAGE)
        try:
            _allocate_pages(self._memory, self.descriptor, page_bytes)
        except OSError:
            self.close()
            raise
        self._memory[: len(head)] = head
        self._views = {name: self._view(offsets[name], tensor) for name, tensor in tensors.items()}

    def _view(self, offset: int, tensor: Any) -> Any:
        import torch

        if not tensor.numel():
            return torch.empty(tensor.shape, dtype=tensor.dtype)
        flat = torch.frombuffer(self._memory, dtype=tensor.dtype, count=tensor.numel(), offset=offset)
        return flat.view(tensor.shape)

    def fill(self, tensors: Mapping[str, Any]) -> None:
        """Copy *tensors* into the memory; the caller may change them afterwards."""
        devices = set()
        for name, tensor in tensors.items():
            view = self._views[name]
            view.copy_(tensor.detach(), non_blocking=True)
            devices.add(tensor.device)
        for device in devices:
            if device.type == "cuda":
                import torch

                torch.cuda.synchronize(device)

    def close(self) -> None:
        """Close the memory, which the kernel frees when the background process has ended too."""
        self._views = {}
        self._memory.close()
        os.close(self.descriptor)
