"""What is quantised: a training's checkpoint, a published model, one of Hugging Face's, or ONNX; all become ONNX."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx

from workloads.checkpoint import disk, manifest
from workloads.errors import WorkloadError
from workloads.serving import model as served
from workloads.serving.model import Tensor

OPSET = 17
"""ONNX's operators of 2022: the newest that PyTorch's exporter of traces writes and all runtimes here read."""
_DATATYPES = {
    onnx.TensorProto.FLOAT: "FP32", onnx.TensorProto.DOUBLE: "FP64", onnx.TensorProto.FLOAT16: "FP16",
    onnx.TensorProto.INT64: "INT64", onnx.TensorProto.INT32: "INT32", onnx.TensorProto.INT8: "INT8",
    onnx.TensorProto.UINT8: "UINT8", onnx.TensorProto.BOOL: "BOOL", onnx.TensorProto.STRING: "BYTES",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Source:
    """A model as ONNX, in full precision."""

    path: Path
    name: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    lineage: Mapping[str, Any]
    """What it was made from."""
    parent: str | None = None
    """The digest of the manifest of the checkpoint or model that it is; None where it is a file that has none."""


def source(what: Path, scratch: Path) -> Source:
    """Return *what* as an ONNX file, exported into *scratch* where it is not one yet.

    Raises:
        WorkloadError: it is no model, or damaged.
    """
    if (what / "checkpoints").is_dir() or (what / manifest.NAME).is_file():
        return _of_training(what, scratch)
    if (what / served.NAME).is_file():
        found = served.read(what)
        served.verify(what, found)
        [name] = [name for name in found.files if name.endswith(".onnx")] or [""]
        if not name:
            raise WorkloadError(str(what), f"got a model of {found.runtime}", "ONNX is quantised", "Name its source")
        parent = disk.sha256(what / served.NAME)
        return Source(what / name, found.name, found.inputs, found.outputs, found.lineage, parent)
    if what.suffix == ".onnx" and what.is_file():
        return _of_onnx(what, scratch)
    if (what / "config.json").is_file():
        return _of_hugging_face(what, scratch)
    want = "a model is a training's directory, a published one, one of Hugging Face's, a version, or a file of ONNX"
    raise WorkloadError(str(what), "got none of these" if what.exists() else "got nothing", want, "Mend the path")


def _of_training(what: Path, scratch: Path) -> Source:
    import torch

    from workloads.serving.runtimes.torch import load_trained

    module, model = load_trained(what)
    path = scratch / "model.onnx"
    [taken], [given] = model.inputs, model.outputs
    example = torch.zeros(2, *taken.shape[1:])
    with warnings.catch_warnings():
        # The exporter of traces, for all that it is the old one: the same graph in 3 s instead of 57
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            module, (example,), path, input_names=[taken.name], output_names=[given.name], opset_version=OPSET,
            dynamic_axes={taken.name: {0: "batch"}, given.name: {0: "batch"}}, dynamo=False,
        )  # fmt: skip
    lineage = {"training": model.lineage, "version": model.version}
    return Source(path, model.name, model.inputs, model.outputs, lineage, model.lineage["checkpoint"])


def _of_hugging_face(what: Path, scratch: Path) -> Source:
    from workloads.quantize import hugging_face

    exported = scratch / f"{what.name}.onnx"
    lineage = hugging_face.export(what, exported, OPSET)
    return replace(_of_onnx(exported, scratch), lineage=lineage)


def _of_onnx(what: Path, scratch: Path) -> Source:
    try:
        graph = onnx.load(what)
        onnx.checker.check_model(graph)
    except Exception as error:  # a parser's and a checker's have no class in common
        said = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise WorkloadError(str(what), f"got {said}", "it is an ONNX model", "Export it again") from None
    weights = {tensor.name for tensor in graph.graph.initializer}
    inputs = tuple(_tensor(value) for value in graph.graph.input if value.name not in weights)
    outputs = tuple(_tensor(value) for value in graph.graph.output)
    path = scratch / "model.onnx"
    onnx.save(graph, path)  # whole: weights that lie beside the file come into it
    lineage = {"file": what.name, "sha256": disk.sha256(what)}
    return Source(path, what.stem, inputs, outputs, lineage)


def _tensor(value: Any) -> Tensor:
    kind = value.type.tensor_type
    if kind.elem_type not in _DATATYPES:
        got = f"got {onnx.TensorProto.DataType.Name(kind.elem_type)}"
        raise WorkloadError(value.name, got, f"types are {', '.join(_DATATYPES.values())}", "Cast it in the model")
    shape = tuple(dim.dim_value if dim.HasField("dim_value") else -1 for dim in kind.shape.dim)
    return Tensor(name=value.name, datatype=_DATATYPES[kind.elem_type], shape=shape)  # type: ignore[arg-type]
