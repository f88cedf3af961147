"""What computes: two protocols, and a module for each library. To add one, add a module and a row in `opened`."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from workloads.errors import WorkloadError
from workloads.serving import model
from workloads.serving.runtimes.runtime import Language, Lost, Managed, Runtime
from workloads.serving.settings import Settings

__all__ = ["Language", "Lost", "Managed", "Runtime", "opened"]


def opened(directory: Path, settings: Settings | None = None) -> Runtime | Language:
    """Return the model in *directory*, every file proved, loaded and ready to compute.

    Args:
        directory: As `workloads.serving.model` describes it; or a training's, of which the newest checkpoint is taken.

    Raises:
        WorkloadError: there is no model, it is damaged, or its runtime is not installed.
    """
    settings = settings or Settings()
    if (directory / "checkpoints").is_dir():
        return _torch(directory, settings)
    found = model.read(directory)
    openers: dict[str, Callable[[Path, model.Model, Settings], Runtime | Language]]
    openers = {"onnx": _onnx, "llama.cpp": _llama, "tensorrt": _tensorrt, "vllm": _vllm}
    if found.runtime not in openers:
        want = f"a model directory is of {', '.join(openers)}"
        raise WorkloadError(str(directory / model.NAME), f"got {json.dumps(found.runtime)}", want, "Export it")
    model.fetch_ahead(directory, found)
    numbers = {name for name in found.files if name == model.WEIGHTS or name.endswith(".safetensors")}
    model.prove(directory, found, found.files.keys() - numbers)
    with ThreadPoolExecutor(1) as beside:  # to prove numbers takes as long as to load them, and neither waits
        proof = beside.submit(model.prove, directory, found, numbers)
        try:
            runtime = openers[found.runtime](directory, found, settings)
        except BaseException:
            proof.result()  # that they are damaged says more than what the library made of it
            raise
        try:
            proof.result()
        except BaseException:
            if isinstance(runtime, Managed):
                runtime.close()
            raise
        return runtime


def _onnx(directory: Path, found: model.Model, settings: Settings) -> Runtime:
    from workloads.serving.runtimes.onnx import OnnxRuntime

    return OnnxRuntime(directory, found, settings.threads)


def _llama(directory: Path, found: model.Model, settings: Settings) -> Language:
    try:
        from workloads.serving.runtimes.llama import LlamaRuntime
    except ModuleNotFoundError as error:
        want, fix = "a language model takes llama.cpp", "Serve it in the environment that role workloads makes"
        raise WorkloadError(str(directory), f"got no module {error.name}", want, fix) from error
    return LlamaRuntime(directory, found, settings)


def _tensorrt(directory: Path, found: model.Model, settings: Settings) -> Runtime:
    from workloads.serving.runtimes.tensorrt import TensorRtRuntime

    return TensorRtRuntime(directory, found, settings.max_batch)


def _vllm(directory: Path, found: model.Model, settings: Settings) -> Language:
    from workloads.serving.runtimes.vllm import VllmRuntime

    return VllmRuntime(directory, found, settings)


def _torch(directory: Path, settings: Settings) -> Runtime:
    try:
        from workloads.serving.runtimes.torch import TorchRuntime
    except ModuleNotFoundError as error:
        want, fix = "a training's checkpoint takes PyTorch", "Export it, or serve it in the environment that trains"
        raise WorkloadError(str(directory), f"got no module {error.name}", want, fix) from error
    return TorchRuntime(directory, settings.threads)
