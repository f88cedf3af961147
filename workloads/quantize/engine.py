"""Build a published model's engine for the GPU of this computer, by the TensorRT that is installed here.

    python -m workloads.quantize.engine published/digits --out published/digits-engine --max-batch 64

DIR is what `python -m workloads.serving` serves, on GPUs of this kind and with this version of TensorRT; elsewhere it
is refused. Unverified on hardware: it was built for GPUs that were not there, and run on none.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from workloads.command_line import new_parser
from workloads.errors import WorkloadError
from workloads.serving import model as served
from workloads.serving.model import Model, publish
from workloads.serving.runtimes.cuda import Gpu

STATUS = "Exit status: 0 built, 1 the model is damaged, 2 wrong or refused, 4 TensorRT has failed."
WORKSPACE_BYTES = 1 << 30
"""The most that TensorRT may take of the GPU while it tries what is fastest, and for what it chooses."""


class Failed(WorkloadError):
    """TensorRT took the model, and came to no engine."""

    exit_status = 4


def build(
    directory: Path,
    out: Path,
    max_batch: int,
    library: str = "tensorrt",
    architecture: str = "",
    python: str = sys.executable,
) -> Model:
    """Write the engine of the published model in *directory* to *out*, whole or not at all, and return what it is.

    Args:
        max_batch: The most rows that it will be given at once, and what it is made fastest for.
        library: The module that is TensorRT: ``tensorrt``, or ``tensorrt_rtx``, TensorRT for RTX.
        architecture: For which compute capability, ``8.6``; empty: that of this computer's GPU. Others only TensorRT
            for RTX compiles for.
        python: Of an environment with that library.

    Raises:
        WorkloadError: there is no GPU or TensorRT, or it does not take the model.
    """
    found = served.read(directory)
    served.verify(directory, found)
    [name] = [name for name in found.files if name.endswith(".onnx")] or [""]
    others = [tensor.name for tensor in found.inputs if -1 in tensor.shape[1:]]
    if not name or not found.batches or others:
        got = f"got {', '.join(others)} with sizes that vary" if others else f"got a model of {found.runtime}"
        fix = "Publish it with `python -m workloads.quantize`"
        raise WorkloadError(str(directory), got, "an engine is built of ONNX that takes rows of one shape", fix)
    for_ = architecture or Gpu().capability
    with tempfile.TemporaryDirectory(prefix="rackwright-") as scratch:
        engine = Path(scratch) / "engine"
        order = {
            "library": library, "model": str((directory / name).resolve()), "out": str(engine),
            "architecture": architecture, "workspace_bytes": WORKSPACE_BYTES,
            "shapes": {tensor.name: [(rows, *tensor.shape[1:]) for rows in (1, max_batch, max_batch)]
                       for tensor in found.inputs},
        }  # fmt: skip
        version = _ordered(python, order, library)
        precision = found.lineage.get("precision", "fp32")
        lineage = {
            "model": found.version, "library": library, "version": version, "architecture": for_,
            "precision": precision, "max_batch": max_batch,
        }  # fmt: skip
        file = f"{found.version}-{library}-{version}-sm{for_.replace('.', '')}-{precision}-1x{max_batch}.engine"
        return publish(
            out, {file: engine}, found.name, found.inputs, found.outputs, {**found.lineage, "engine": lineage},
            runtime="tensorrt",
        )  # fmt: skip


def _ordered(python: str, order: dict[str, object], library: str) -> str:
    """Return the version of the TensorRT that has built what was ordered."""
    argv = [python, "-m", "workloads.quantize.inside_tensorrt"]
    path = (str(Path(__file__).parents[2]), *filter(None, (os.environ.get("PYTHONPATH"),)))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path)}
    done = subprocess.run(argv, input=json.dumps(order), env=environment, capture_output=True, text=True)
    try:
        told = json.loads(done.stdout)
    except ValueError:
        last = (done.stderr.strip() or f"status {done.returncode}").rpartition("\n")[2]
        fix = "Install TensorRT 11, which no role of ours does"
        raise Failed(library, f"got {last}", f"{python} builds an engine with it", fix) from None
    if errors := told.get("errors"):
        want, fix = f"{library} builds an engine of it", "Quantise it for this GPU, and see what the error names"
        raise Failed(str(order["model"]), f"got {'; '.join(errors)}", want, fix)
    return str(told["version"])


def main(argv: Sequence[str] | None = None) -> int:
    parser = new_parser("workloads.quantize.engine", __doc__, STATUS)
    parser.add_argument("model", metavar="MODEL", type=Path, help="a published model")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="where it is published")
    parser.add_argument("--max-batch", type=int, default=32, metavar="ROWS", help="the most at once; as the server's")
    parser.add_argument("--library", default="tensorrt", help="tensorrt, or tensorrt_rtx for cards that have it")
    given = parser.parse_args(argv)
    try:
        made = build(given.model, given.out, given.max_batch, given.library)
    except WorkloadError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    print(f"published {given.out}: {', '.join(made.files)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
