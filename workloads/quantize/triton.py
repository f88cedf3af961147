"""Write a published model into a model repository of Triton.

    python -m workloads.quantize.triton published/digits --out repository --max-batch 64

The result is `DIR/NAME/config.pbtxt` and `DIR/NAME/1/` with model.onnx or model.plan, for `tritonserver
--model-repository DIR`. Unverified: no Triton has loaded it.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from workloads.checkpoint import disk
from workloads.command_line import as_command, new_parser
from workloads.errors import Diagnostic, UserError
from workloads.foreign import InvalidData, open_regular, read_file
from workloads.output_directory import OutputDirectory, OutputKind, add_arguments
from workloads.serving import model as model_directory
from workloads.serving.model import Model, Tensor

STATUS = "Exit status: 0 written, 1 the model is damaged, 2 wrong input."
CONFIG, VERSION = "config.pbtxt", "rackwright_version"


def export(directory: Path, repository: Path, max_batch: int, replace: bool = False) -> Path:
    """Write the published model in *directory* into *repository*, whole or not at all, and return its directory there.

    Args:
        max_batch: The most rows of a batch, for an ONNX model; an engine has its own.
        replace: Whether the model replaces one of its name that this command wrote.

    Raises:
        UserError: The model is damaged or not for Triton, or *repository* has a model of that name.
    """
    model = model_directory.read(directory)
    output = OutputDirectory(repository / model.name, TRITON_MODEL, replace)
    output.check()
    model_directory.verify(directory, model)
    text, files = config(model, max_batch), _files(model)
    with output.write() as partial:
        (partial / "1").mkdir()
        disk.write(partial / CONFIG, text.encode())
        for name, source in files.items():
            with open_regular(directory / source) as content:
                disk.copy(content, partial / "1" / name)
        output.publish(partial)
    return output.path


def describe(directory: Path) -> str:
    """Return the model that this command wrote to *directory* in words; empty if it has none."""
    try:
        text = read_file(directory / CONFIG)
    except (OSError, InvalidData):
        return ""
    return "a model of this name" if f'"{VERSION}"'.encode() in text else ""


TRITON_MODEL = OutputKind("a model that this command wrote", describe)


def _files(model: Model) -> dict[str, str]:
    """Return the files of *model* by their names in a model repository."""
    if model.runtime == "tensorrt":
        [engine] = model.files
        return {"model.plan": engine}
    return {name: name for name in model.files}  # the weights beside an ONNX file have their name in it


def config(model: Model, max_batch: int) -> str:
    """Return the configuration of *model* for Triton, in protobuf's text format.

    Args:
        max_batch: The most rows of a batch, for an ONNX model; an engine has its own.

    Raises:
        UserError: Triton has no backend for the model, or the package tritonclient is missing.
    """
    engine = model.lineage.get("engine", {})
    if model.runtime not in ("onnx", "tensorrt") or engine.get("library", "tensorrt") != "tensorrt":
        problem = f"the model is for {engine.get('library', model.runtime)}"
        help = "Publish an ONNX model with `python -m workloads.quantize`"
        raise UserError(Diagnostic(model.name, problem, "an ONNX model, or an engine of TensorRT", help))
    try:
        from google.protobuf import text_format
        from tritonclient.grpc import model_config_pb2 as messages
    except ModuleNotFoundError as error:
        help = (
            "Use the Python of `rackwright toolchain workloads`, and install tritonclient[grpc] there if it is missing"
        )
        raise UserError(Diagnostic("tritonclient", f"the module {error.name} is missing", help=help)) from None

    def describe(tensor: Tensor) -> dict[str, object]:
        datatype = "TYPE_STRING" if tensor.datatype == "BYTES" else f"TYPE_{tensor.datatype}"
        return {"name": tensor.name, "data_type": datatype, "dims": tensor.shape[1:] if model.batches else tensor.shape}

    result = messages.ModelConfig(
        name=model.name,
        backend="tensorrt" if model.runtime == "tensorrt" else "onnxruntime",
        max_batch_size=engine.get("max_batch", max_batch) if model.batches else 0,
        input=[describe(tensor) for tensor in model.inputs],
        output=[describe(tensor) for tensor in model.outputs],
    )
    if model.batches:
        result.dynamic_batching.SetInParent()  # requests that wait for the model are computed together
    if target := model.lineage.get("target"):
        kind = messages.ModelInstanceGroup.KIND_CPU if target == "cpu" else messages.ModelInstanceGroup.KIND_GPU
        result.instance_group.add(kind=kind)
    result.parameters[VERSION].string_value = model.version
    return str(text_format.MessageToString(result))


@as_command
def main(argv: Sequence[str] | None = None) -> int:
    parser = new_parser("workloads.quantize.triton", __doc__, STATUS)
    parser.add_argument("model", metavar="MODEL", type=Path, help="a published model, or an engine of TensorRT")
    add_arguments(parser, "Triton's model repository")
    parser.add_argument(
        "--max-batch", type=int, default=32, metavar="ROWS",
        help="the most rows of a batch of an ONNX model (default %(default)s)",
    )  # fmt: skip
    args = parser.parse_args(argv)
    if args.max_batch < 1:
        parser.error(f"--max-batch: {args.max_batch} is less than 1")
    written = export(args.model, args.out, args.max_batch, args.replace)
    print(f"written {written}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
