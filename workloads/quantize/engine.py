"""Build a published model's TensorRT engine for the GPU of this computer, with the installed TensorRT.

    python -m workloads.quantize.engine published/digits --out published/digits-engine --max-batch 64

`python -m workloads.serving` serves DIR on GPUs of this kind and with this version of TensorRT, and refuses it
elsewhere. Unverified on hardware: engines were built for absent GPUs, and never run.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from workloads.command_line import new_parser
from workloads.errors import Diagnostic, UserError, print_error
from workloads.serving import model as model_directory
from workloads.serving.model import Model, publish
from workloads.serving.runtimes.cuda import CudaGpu

STATUS = "Exit status: 0 built, 1 the model is damaged, 2 wrong input, 4 TensorRT failed."
WORKSPACE_BYTES = 1 << 30
"""The most GPU memory, in bytes, that TensorRT may use to try and run its kernels."""


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
) -> Model:
    """Write the engine of the published model in *directory* to *out*, whole or not at all, and return its metadata.

    Args:
        max_batch: The most rows of a batch; the engine is optimised for this size.
        library: The module of TensorRT: ``tensorrt``, or ``tensorrt_rtx``, TensorRT for RTX.
        architecture: The compute capability to build for, ``8.6``; empty: that of this computer's GPU. Only TensorRT
            for RTX builds for others.
        python: The interpreter of an environment with that library.

    Raises:
        UserError: there is no GPU or TensorRT, or it cannot build the model.
    """
    source = model_directory.read(directory)
    model_directory.verify(directory, source)
    [name] = [name for name in source.files if name.endswith(".onnx")] or [""]
    dynamic = [tensor.name for tensor in source.inputs if -1 in tensor.shape[1:]]
    if not name or not source.batches or dynamic:
        problem = f"the size of {', '.join(dynamic)} varies" if dynamic else f"the model is for {source.runtime}"
        help = "Publish the model with `python -m workloads.quantize`"
        raise UserError(Diagnostic(str(directory), problem, "an ONNX model with rows of one shape", help))
    capability = architecture or CudaGpu().capability
    with tempfile.TemporaryDirectory(prefix="rackwright-") as scratch:
        engine = Path(scratch) / "engine"
        request = {
            "library": library, "model": str((directory / name).resolve()), "out": str(engine),
            "architecture": architecture, "workspace_bytes": WORKSPACE_BYTES,
            "shapes": {tensor.name: [(rows, *tensor.shape[1:]) for rows in (1, max_batch, max_batch)]
                       for tensor in source.inputs},
        }  # fmt: skip
        version = _build_engine(python, request, library)
        precision = source.lineage.get("precision", "fp32")
        lineage = {
            "model": source.version, "library": library, "version": version, "architecture": capability,
            "precision": precision, "max_batch": max_batch,
        }  # fmt: skip
        file = f"{source.version}-{library}-{version}-sm{capability.replace('.', '')}-{precision}-1x{max_batch}.engine"
        return publish(
            out, {file: engine}, source.name, source.inputs, source.outputs, {**source.lineage, "engine": lineage},
            runtime="tensorrt",
        )  # fmt: skip


def _build_engine(python: str, request: dict[str, object], library: str) -> str:
    """Build the engine of *request* in a process of its own, and return the version of its TensorRT."""
    argv = [python, "-m", "workloads.quantize.inside_tensorrt"]
    path = (str(Path(__file__).parents[2]), *filter(None, (os.environ.get("PYTHONPATH"),)))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path), "PYTHONSAFEPATH": "1"}
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


def main(argv: Sequence[str] | None = None) -> int:
    parser = new_parser("workloads.quantize.engine", __doc__, STATUS)
    parser.add_argument("model", metavar="MODEL", type=Path, help="a published model")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="directory for the published engine")
    parser.add_argument(
        "--max-batch", type=int, default=32, metavar="ROWS", help="the most rows of a batch; the server's max_batch"
    )
    parser.add_argument("--library", default="tensorrt", help="tensorrt, or tensorrt_rtx for RTX cards")
    args = parser.parse_args(argv)
    try:
        model = build(args.model, args.out, args.max_batch, args.library)
    except UserError as error:
        print_error(error)
        return error.exit_status
    print(f"published {args.out}: {', '.join(model.files)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
