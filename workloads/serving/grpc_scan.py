"""Limits of a message of gRPC, checked in its bytes before a parser makes objects of them.

An empty tensor of two bytes becomes hundreds of bytes in memory. This module counts fields and values first.
Source: Protocol Buffers, Encoding.
"""

from typing import Any

import numpy as np
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError

from workloads.serving.grpc_messages import CLASSES
from workloads.serving.offload import MAX_CONTAINERS, MAX_VALUES
from workloads.serving.wire import MOST_TENSORS, MalformedRequest

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""Types on the wire; those of groups are none of the protocol."""
SIZES = {FieldDescriptor.TYPE_FLOAT: 4, FieldDescriptor.TYPE_DOUBLE: 8}
TENSORS = ("inputs", "outputs", "raw_input_contents")


def check_message(name: str, content: bytes) -> None:
    """Check the numbers of fields, tensors and values in *content*, a message *name*.

    Raises:
        MalformedRequest: There are too many.
        DecodeError: It is no message.
    """
    _Scan(content).read(CLASSES[name].DESCRIPTOR, 0, len(content), top=True)


class _Scan:
    def __init__(self, content: bytes) -> None:
        self._content = content
        self._fields = self._values = 0

    def read(self, descriptor: Any, place: int, end: int, top: bool = False) -> None:
        """Count the fields of a message from *place* to *end*."""
        tensors = dict.fromkeys(TENSORS, 0)
        while place < end:
            tag, place = self._varint(place, end)
            self._count_fields(1)
            number, kind = tag >> 3, tag & 7
            if tag >= 1 << 32 or kind not in (VARINT, FIXED64, BYTES, FIXED32):
                raise DecodeError
            if kind == VARINT:
                _, place = self._varint(place, end)
                continue
            size, place = self._varint(place, end) if kind == BYTES else ({FIXED64: 8, FIXED32: 4}[kind], place)
            if size > end - place:
                raise DecodeError
            field = descriptor.fields_by_number.get(number)
            if top and field and field.name in tensors:
                tensors[field.name] += 1
                if tensors[field.name] > MOST_TENSORS:
                    raise MalformedRequest(f"{field.name}: got more than {MOST_TENSORS}")
            if field and kind == BYTES:
                self._read_field(field, place, place + size)
            place += size

    def _read_field(self, field: Any, place: int, end: int) -> None:
        if field.message_type:
            self.read(field.message_type, place, end)
        elif field.is_repeated and field.type not in (FieldDescriptor.TYPE_BYTES, FieldDescriptor.TYPE_STRING):
            packed = np.frombuffer(self._content, np.uint8, end - place, place)
            # the last byte of a varint is below 128
            count = len(packed) // SIZES[field.type] if field.type in SIZES else int(np.count_nonzero(packed < 128))
            if field.name == "shape":
                self._count_fields(count)
                return
            self._values += count
            if self._values > MAX_VALUES:
                raise MalformedRequest(f"contents: got more than {MAX_VALUES} values; send raw_input_contents")

    def _count_fields(self, count: int) -> None:
        self._fields += count
        if self._fields > MAX_CONTAINERS:
            raise MalformedRequest(f"the message has more than {MAX_CONTAINERS} fields; send raw_input_contents")

    def _varint(self, place: int, end: int) -> tuple[int, int]:
        """Return the number at *place*, and the place after it."""
        value = 0
        for shift in range(0, 70, 7):
            if place >= end:
                raise DecodeError
            byte = self._content[place]
            value, place = value | (byte & 127) << shift, place + 1
            if byte < 128:
                return value, place
        raise DecodeError
