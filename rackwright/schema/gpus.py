"""The GPUs of a host that a training run or a model server has: how many, their indices, or their UUIDs."""

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

from rackwright.schema.base import COUNT_MAX
from rackwright.schema.problem import Problem

UUID = r"GPU-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
"""The form in which NVIDIA's driver reports a UUID. Source: nvmlDeviceGetUUID, nvml.h."""
EXPECTED = "the number of GPUs, a list of their indices, or a list of their UUIDs"


def _selection(value: Any) -> int | tuple[int, ...] | tuple[str, ...]:
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= COUNT_MAX:
        return value
    if not isinstance(value, list | tuple) or not value:
        raise Problem(f"got {value!r}", EXPECTED, "Write it like 2, [0, 1] or [GPU-…]")
    for index, each in enumerate(value):
        if each in value[:index]:
            raise Problem(f"got {each} twice", "a GPU is named once", "Remove one of them", (index,))
        if isinstance(each, bool) or (not (isinstance(each, int) and 0 <= each <= COUNT_MAX) and not _is_uuid(each)):
            help = "Copy the UUID from `rackwright gpu top STACK --json`, or write the index from 0 on"
            raise Problem(f"got {each!r}", EXPECTED, help, (index,))
        if type(each) is not type(value[0]):
            raise Problem(f"got {each!r}", "all GPUs are named by index, or all by UUID", "Name all alike", (index,))
    return tuple(value)


def _is_uuid(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(UUID, value) is not None


GpuSelection = Annotated[
    int | tuple[int, ...] | tuple[str, ...],
    BeforeValidator(_selection),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 1, "maximum": COUNT_MAX},
                {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": COUNT_MAX}, "minItems": 1},
                {"type": "array", "items": {"type": "string", "pattern": f"^{UUID}$"}, "minItems": 1},
            ]
        }
    ),
]
"""How many GPUs of a host, their indices in the order of the PCI bus, or their UUIDs."""


def count(selection: int | tuple[int, ...] | tuple[str, ...]) -> int:
    """Return the number of GPUs of *selection*."""
    return selection if isinstance(selection, int) else len(selection)


def are_uuids(selection: int | tuple[int, ...] | tuple[str, ...] | None) -> bool:
    return isinstance(selection, tuple) and isinstance(selection[0], str)
