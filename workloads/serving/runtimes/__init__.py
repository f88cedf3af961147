"""What computes: one protocol, and a module for each library. To add one, add a module and a row in `opened`."""

import json
from collections.abc import Callable
from pathlib import Path

from workloads.common.errors import WorkloadError
from workloads.serving import model
from workloads.serving.runtimes.runtime import Runtime

__all__ = ["Runtime", "opened"]


def opened(directory: Path, threads: int = 0) -> Runtime:
    """Return the model in *directory*, every file proved, loaded and ready to compute.

    Args:
        directory: As `workloads.serving.model` describes it; or a training's, of which the newest checkpoint is taken.
        threads: That one inference may use; 0: as many as there are cores.

    Raises:
        WorkloadError: there is no model, it is damaged, or its runtime is not installed.
    """
    if (directory / "checkpoints").is_dir():
        return _torch(directory, threads)
    found = model.read(directory)
    model.prove(directory, found)
    openers: dict[str, Callable[[Path, model.Model, int], Runtime]] = {"onnx": _onnx}
    if found.runtime not in openers:
        want = f"a model directory is of {', '.join(openers)}"
        raise WorkloadError(str(directory / model.NAME), f"got {json.dumps(found.runtime)}", want, "Export it")
    return openers[found.runtime](directory, found, threads)


def _onnx(directory: Path, found: model.Model, threads: int) -> Runtime:
    from workloads.serving.runtimes.onnx import OnnxRuntime

    return OnnxRuntime(directory, found, threads)


def _torch(directory: Path, threads: int) -> Runtime:
    try:
        from workloads.serving.runtimes.torch import TorchRuntime
    except ModuleNotFoundError as error:
        want, fix = "a training's checkpoint takes PyTorch", "Export it, or serve it in the environment that trains"
        raise WorkloadError(str(directory), f"got no module {error.name}", want, fix) from error
    return TorchRuntime(directory, threads)
