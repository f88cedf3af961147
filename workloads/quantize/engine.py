"""Build a published model's TensorRT engine for the GPU of this computer, with the installed TensorRT.

    python -m workloads.quantize.engine published/digits --out published/digits-engine --max-batch 64

`python -m workloads.serving` serves DIR on GPUs of this kind and with this version of TensorRT, and refuses it
elsewhere. Unverified on hardware: engines were built for absent GPUs, and never run.
"""

import json
import os
import shlex
import subprocess
import sys
import tempfile
from argparse import ArgumentTypeError
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ByteSize, TypeAdapter, ValidationError

from workloads.command_line import as_command, new_parser
from workloads.errors import Diagnostic, UserError
from workloads.output_directory import OutputDirectory, add_arguments
from workloads.process_variables import python_path
from workloads.serving import model as model_directory
from workloads.serving.model import MODEL, Model, publish
from workloads.serving.runtimes.cuda import CudaGpu

STATUS = "Exit status: 0 built, 1 the model is damaged, 2 wrong input, 4 TensorRT failed."
_MIB = 1 << 20


@dataclass(frozen=True)
class BuilderSettings:
    """The settings of TensorRT's builder."""

    workspace_bytes: int = 1 << 30
    """The most GPU memory, in bytes, that TensorRT may use to try and run its kernels; a multiple of 1 MiB."""
    level: int = 3
    """How long TensorRT searches for fast kernels, from 0 to 5; 3 is its own default."""
    timing_cache: Path | None = None
    """A file with the timings of kernels, which later builds read and extend."""


class EngineBuildFailed(UserError):
    """TensorRT could not build an engine of the model."""

    exit_status = 4


def build(
    directory: Path,
    out: Path,
    max_batch: int,
    library: str = "tensorrt",
    architecture: str = "",
    python: str = sys.executable,
    builder: BuilderSettings = BuilderSettings(),
    replace: bool = False,
) -> Model:
    """Write the engine of the published model in *directory* to *out*, whole or not at all, and return its metadata.

    Args:
        max_batch: The most rows of a batch; the engine is optimised for this size.
        library: The module of TensorRT: ``tensorrt``, or ``tensorrt_rtx``, TensorRT for RTX.
        architecture: The compute capability to build for, ``8.6``; empty: that of this computer's GPU. Only TensorRT
            for RTX builds for others.
        python: The interpreter of an environment with that library.
        replace: Whether the engine replaces another model in *out*.

    Raises:
        UserError: there is no GPU or TensorRT, it cannot build the model, or *out* exists.
    """
    OutputDirectory(out, MODEL, replace).check()
    source = model_directory.read(directory)
    model_directory.verify(directory, source)
    [name] = [name for name in source.files if name.endswith(".onnx")] or [""]
    dynamic = [tensor.name for tensor in source.inputs if -1 in tensor.shape[1:]]
    if not name or not source.batches or dynamic:
        problem = f"the size of {', '.join(dynamic)} varies" if dynamic else f"the model is for {source.runtime}"
        help = "Publish the model with `python -m workloads.quantize`"
        raise UserError(Diagnostic(str(directory), problem, "an ONNX model with rows of one shape", help))
    if builder.timing_cache and library.startswith("tensorrt_rtx"):
        problem = f"{library} has no timing cache"
        raise UserError(Diagnostic("--timing-cache", problem, "TensorRT itself", "Leave --timing-cache out"))
    capability = architecture or CudaGpu().capability
    with tempfile.TemporaryDirectory(prefix="rackwright-") as scratch:
        engine = Path(scratch) / "engine"
        shapes = {tensor.name: [(rows, *tensor.shape[1:]) for rows in (1, max_batch, max_batch)]
                  for tensor in source.inputs}  # fmt: skip
        request = {
            "library": library, "model": str((directory / name).resolve()), "out": str(engine),
            "architecture": architecture, "workspace_bytes": builder.workspace_bytes, "builder_level": builder.level,
            "timing_cache": str(builder.timing_cache.absolute()) if builder.timing_cache else "",
            "shapes": shapes,
        }  # fmt: skip
        version = _build_engine(python, request, library)
        precision = source.lineage.get("precision", "fp32")
        file = f"{source.version}-{library}-{version}-sm{capability.replace('.', '')}-{precision}-1x{max_batch}.engine"
        lineage = {
            "model": source.version, "library": library, "version": version, "architecture": capability,
            "precision": precision, "max_batch": max_batch, "workspace_bytes": builder.workspace_bytes,
            "builder_level": builder.level,
        }  # fmt: skip
        if library == "tensorrt":  # TensorRT for RTX has another program
            lineage["trtexec"] = trtexec_line(name, file, shapes, builder)
        return publish(
            out, {file: engine}, source.name, source.inputs, source.outputs, {**source.lineage, "engine": lineage},
            runtime="tensorrt", replace=replace,
        )  # fmt: skip


def trtexec_line(
    model: str, engine: str, shapes: Mapping[str, Sequence[Sequence[int]]], builder: BuilderSettings
) -> str:
    """Return the command of TensorRT's own program that builds the same engine, in the directory of the model.

    Args:
        shapes: The smallest, the best and the largest shape of each input.
    """

    def option(number: int) -> str:
        return ",".join(f"{name}:{'x'.join(map(str, sizes[number]))}" for name, sizes in shapes.items())

    argv = [
        "trtexec", f"--onnx={model}", f"--saveEngine={engine}",
        *(f"--{name}Shapes={option(number)}" for number, name in enumerate(("min", "opt", "max"))),
        f"--memPoolSize=workspace:{builder.workspace_bytes // _MIB}M", f"--builderOptimizationLevel={builder.level}",
    ]  # fmt: skip
    if builder.timing_cache:
        argv.append(f"--timingCacheFile={builder.timing_cache.name}")
    return shlex.join([*argv, "--skipInference"])


def _build_engine(python: str, request: dict[str, object], library: str) -> str:
    """Build the engine of *request* in a process of its own, and return the version of its TensorRT."""
    argv = [python, "-m", "workloads.quantize.inside_tensorrt"]
    environment = {**os.environ, "PYTHONPATH": python_path(), "PYTHONSAFEPATH": "1"}
    done = subprocess.run(argv, input=json.dumps(request), env=environment, capture_output=True, text=True)
    try:
        response = json.loads(done.stdout)
    except ValueError:
        last = (done.stderr.strip() or f"status {done.returncode}").rpartition("\n")[2]
        problem, note = f"{python} cannot build an engine with it: {last}", "no role installs TensorRT"
        raise EngineBuildFailed(Diagnostic(library, problem, help="Install TensorRT 11", note=note)) from None
    if errors := response.get("errors"):
        problem = f"{library} cannot build an engine of the model: {'; '.join(errors)}"
        help = "Correct the reported error, and quantise the model for this GPU"
        raise EngineBuildFailed(Diagnostic(str(request["model"]), problem, help=help))
    return str(response["version"])


@as_command
def main(argv: Sequence[str] | None = None) -> int:
    parser = new_parser("workloads.quantize.engine", __doc__, STATUS)
    parser.add_argument("model", metavar="MODEL", type=Path, help="a published model")
    add_arguments(parser, "the published engine")
    parser.add_argument(
        "--max-batch", type=int, default=32, metavar="ROWS", help="the most rows of a batch; the server's max_batch"
    )
    parser.add_argument("--library", default="tensorrt", help="tensorrt, or tensorrt_rtx for RTX cards")
    parser.add_argument(
        "--workspace", type=_workspace, default="1GiB", metavar="SIZE",
        help="the most GPU memory for trying and running kernels (default %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--builder-level", type=int, choices=range(6), default=BuilderSettings.level,
        help="how long TensorRT searches for fast kernels (default %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--timing-cache", type=Path, metavar="FILE", help="timings of kernels, read and extended by each build"
    )
    args = parser.parse_args(argv)
    builder = BuilderSettings(args.workspace, args.builder_level, args.timing_cache)
    model = build(args.model, args.out, args.max_batch, args.library, builder=builder, replace=args.replace)
    print(f"published {args.out}: {', '.join(model.files)}")
    if line := model.lineage["engine"].get("trtexec"):
        print(f"the same by TensorRT's program: {line}")
    return 0


def _workspace(text: str) -> int:
    try:
        size = int(TypeAdapter(ByteSize).validate_python(text))
    except ValidationError:
        raise ArgumentTypeError(f"{text!r} is not a size; write it like 4GiB") from None
    if size < _MIB or size % _MIB:
        raise ArgumentTypeError(f"{text} is not a multiple of 1MiB")
    return size


if __name__ == "__main__":
    sys.exit(main())
