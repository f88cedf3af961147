"""Load the model to quantise, as ONNX: a training's checkpoint, a published model, a Hugging Face model, or ONNX."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx

from workloads.checkpoint import disk, manifest
from workloads.errors import Diagnostic, UserError
from workloads.serving import model as model_directory
from workloads.serving.model import Tensor

OPSET = 17
"""ONNX's operator set of 2022: the newest that PyTorch's tracing exporter writes and all runtimes here read."""
_DATATYPES = {
    onnx.TensorProto.FLOAT: "FP32", onnx.TensorProto.DOUBLE: "FP64", onnx.TensorProto.FLOAT16: "FP16",
    onnx.TensorProto.INT64: "INT64", onnx.TensorProto.INT32: "INT32", onnx.TensorProto.INT8: "INT8",
    onnx.TensorProto.UINT8: "UINT8", onnx.TensorProto.BOOL: "BOOL", onnx.TensorProto.STRING: "BYTES",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class SourceModel:
    """A model as ONNX, in full precision."""

    path: Path
    name: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    lineage: Mapping[str, Any]
    """The origin of the model."""
    parent: str | None = None
    """The digest of the manifest of the checkpoint or model; None for a file without one."""


def source(location: Path, scratch: Path) -> SourceModel:
    """Return the model at *location* as an ONNX file, exported into *scratch* if it has another format.

    Raises:
        UserError: *location* is no model, or is damaged.
    """
    if (location / "checkpoints").is_dir() or (location / manifest.NAME).is_file():
        return _from_training(location, scratch)
    if (location / model_directory.NAME).is_file():
        metadata = model_directory.read(location)
        model_directory.verify(location, metadata)
        [name] = [name for name in metadata.files if name.endswith(".onnx")] or [""]
        if not name:
            raise UserError(
                Diagnostic(
                    str(location),
                    f"the model is for {metadata.runtime}",
                    "an ONNX model",
                    "Use the model that it was made from",
                )
            )
        parent = disk.sha256(location / model_directory.NAME)
        return SourceModel(location / name, metadata.name, metadata.inputs, metadata.outputs, metadata.lineage, parent)
    if location.suffix == ".onnx" and location.is_file():
        return _from_onnx(location, scratch)
    if (location / "config.json").is_file():
        return _from_hugging_face(location, scratch)
    problem = "the path is not a model" if location.exists() else "the path does not exist"
    expected = "a training's directory, a published or Hugging Face model, a version, or an ONNX file"
    raise UserError(Diagnostic(str(location), problem, expected, "Correct the path"))


def _from_training(location: Path, scratch: Path) -> SourceModel:
    import torch

    from workloads.serving.runtimes.torch import load_trained

    module, model = load_trained(location)
    path = scratch / "model.onnx"
    [input_tensor], [output_tensor] = model.inputs, model.outputs
    example = torch.zeros(2, *input_tensor.shape[1:])
    with warnings.catch_warnings():
        # the older, tracing exporter: the same graph in 3 s instead of 57
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            module, (example,), path, input_names=[input_tensor.name], output_names=[output_tensor.name],
            opset_version=OPSET,
            dynamic_axes={input_tensor.name: {0: "batch"}, output_tensor.name: {0: "batch"}}, dynamo=False,
        )  # fmt: skip
    lineage = {"training": model.lineage, "version": model.version}
    return SourceModel(path, model.name, model.inputs, model.outputs, lineage, model.lineage["checkpoint"])


def _from_hugging_face(location: Path, scratch: Path) -> SourceModel:
    from workloads.quantize import hugging_face

    exported = scratch / f"{location.name}.onnx"
    lineage = hugging_face.export(location, exported, OPSET)
    return replace(_from_onnx(exported, scratch), lineage=lineage)


def _from_onnx(location: Path, scratch: Path) -> SourceModel:
    try:
        graph = onnx.load(location)
        onnx.checker.check_model(graph)
    except Exception as error:  # the parser's and the checker's exceptions share no class
        message = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            Diagnostic(str(location), f"the file is not an ONNX model: {message}", help="Export the model again")
        ) from None
    weights = {tensor.name for tensor in graph.graph.initializer}
    inputs = tuple(_tensor(value) for value in graph.graph.input if value.name not in weights)
    outputs = tuple(_tensor(value) for value in graph.graph.output)
    path = scratch / "model.onnx"
    onnx.save(graph, path)  # one file: external weights move into it
    lineage = {"file": location.name, "sha256": disk.sha256(location)}
    return SourceModel(path, location.stem, inputs, outputs, lineage)


def _tensor(value: Any) -> Tensor:
    kind = value.type.tensor_type
    if kind.elem_type not in _DATATYPES:
        problem = f"the type {onnx.TensorProto.DataType.Name(kind.elem_type)} is not supported"
        expected = f"one of {', '.join(_DATATYPES.values())}"
        raise UserError(Diagnostic(value.name, problem, expected, "Cast the value in the model"))
    shape = tuple(dim.dim_value if dim.HasField("dim_value") else -1 for dim in kind.shape.dim)
    return Tensor(name=value.name, datatype=_DATATYPES[kind.elem_type], shape=shape)  # type: ignore[arg-type]
