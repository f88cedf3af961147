"""The messages of KServe's protocol, version 2, over gRPC, as descriptors without generated code.

They are those of the Open Inference Protocol that every client knows, with the numbers and types of its
``grpc_predict_v2.proto``, in a pool of their own: a program may have the messages of a client beside them.
"""

from collections.abc import Mapping
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE, SERVICE = "inference", "GRPCInferenceService"
Field = descriptor_pb2.FieldDescriptorProto
TYPES = {
    "bool": Field.TYPE_BOOL, "int32": Field.TYPE_INT32, "int64": Field.TYPE_INT64, "uint32": Field.TYPE_UINT32,
    "uint64": Field.TYPE_UINT64, "float": Field.TYPE_FLOAT, "double": Field.TYPE_DOUBLE, "string": Field.TYPE_STRING,
    "bytes": Field.TYPE_BYTES,
}  # fmt: skip
PARAMETERS = "map InferParameter"
MESSAGES: Mapping[str, Mapping[str, tuple[int, str]]] = {
    "ServerLiveRequest": {}, "ServerLiveResponse": {"live": (1, "bool")},
    "ServerReadyRequest": {}, "ServerReadyResponse": {"ready": (1, "bool")},
    "ModelReadyRequest": {"name": (1, "string"), "version": (2, "string")},
    "ModelReadyResponse": {"ready": (1, "bool")},
    "ServerMetadataRequest": {},
    "ServerMetadataResponse": {"name": (1, "string"), "version": (2, "string"), "extensions": (3, "repeated string")},
    "ModelMetadataRequest": {"name": (1, "string"), "version": (2, "string")},
    "ModelMetadataResponse": {
        "name": (1, "string"), "versions": (2, "repeated string"), "platform": (3, "string"),
        "inputs": (4, "repeated ModelMetadataResponse.TensorMetadata"),
        "outputs": (5, "repeated ModelMetadataResponse.TensorMetadata"),
    },
    "ModelMetadataResponse.TensorMetadata": {
        "name": (1, "string"), "datatype": (2, "string"), "shape": (3, "repeated int64"),
    },
    "InferParameter": {
        "bool_param": (1, "oneof bool"), "int64_param": (2, "oneof int64"), "string_param": (3, "oneof string"),
        "double_param": (4, "oneof double"), "uint64_param": (5, "oneof uint64"),
    },
    "InferTensorContents": {
        "bool_contents": (1, "repeated bool"), "int_contents": (2, "repeated int32"),
        "int64_contents": (3, "repeated int64"), "uint_contents": (4, "repeated uint32"),
        "uint64_contents": (5, "repeated uint64"), "fp32_contents": (6, "repeated float"),
        "fp64_contents": (7, "repeated double"), "bytes_contents": (8, "repeated bytes"),
    },
    "ModelInferRequest": {
        "model_name": (1, "string"), "model_version": (2, "string"), "id": (3, "string"), "parameters": (4, PARAMETERS),
        "inputs": (5, "repeated ModelInferRequest.InferInputTensor"),
        "outputs": (6, "repeated ModelInferRequest.InferRequestedOutputTensor"),
        "raw_input_contents": (7, "repeated bytes"),
    },
    "ModelInferRequest.InferInputTensor": {
        "name": (1, "string"), "datatype": (2, "string"), "shape": (3, "repeated int64"),
        "parameters": (4, PARAMETERS),
        "contents": (5, "InferTensorContents"),
    },
    "ModelInferRequest.InferRequestedOutputTensor": {"name": (1, "string"), "parameters": (2, PARAMETERS)},
    "ModelInferResponse": {
        "model_name": (1, "string"), "model_version": (2, "string"), "id": (3, "string"), "parameters": (4, PARAMETERS),
        "outputs": (5, "repeated ModelInferResponse.InferOutputTensor"), "raw_output_contents": (6, "repeated bytes"),
    },
    "ModelInferResponse.InferOutputTensor": {
        "name": (1, "string"), "datatype": (2, "string"), "shape": (3, "repeated int64"),
        "parameters": (4, PARAMETERS),
        "contents": (5, "InferTensorContents"),
    },
}  # fmt: skip
"""Fields by message: their numbers and types. Source: kserve/open-inference-protocol, grpc_predict_v2.proto."""
METHODS = ("ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelInfer")


def _file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name="grpc_predict_v2.proto", package=PACKAGE, syntax="proto3")
    found: dict[str, descriptor_pb2.DescriptorProto] = {}
    for name, fields in MESSAGES.items():
        outer, _, last = name.rpartition(".")
        message = found[outer].nested_type.add() if outer else file.message_type.add()
        message.name, found[name] = last, message
        for field, (number, shape) in fields.items():
            _add_field(message, name, field, number, shape)
    return file


def _add_field(message: descriptor_pb2.DescriptorProto, path: str, name: str, number: int, shape: str) -> None:
    rule, _, kind = shape.rpartition(" ")
    field = message.field.add(name=name, number=number)
    field.label = Field.LABEL_REPEATED if rule in ("repeated", "map") else Field.LABEL_OPTIONAL
    if rule == "oneof":
        if not message.oneof_decl:
            message.oneof_decl.add(name="parameter_choice")
        field.oneof_index = 0
    if rule == "map":
        entry = message.nested_type.add(name=f"{name.title()}Entry")
        entry.options.map_entry = True
        _add_field(entry, path, "key", 1, "string")
        _add_field(entry, path, "value", 2, kind)
        kind = f"{path}.{entry.name}"
    if kind in TYPES:
        field.type = TYPES[kind]
    else:
        field.type, field.type_name = Field.TYPE_MESSAGE, f".{PACKAGE}.{kind}"


def _classes() -> dict[str, Any]:
    pool = descriptor_pool.DescriptorPool()
    pool.Add(_file())
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}")) for name in MESSAGES}


CLASSES = _classes()
"""The classes of the messages, by their names."""
