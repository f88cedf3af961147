"""The runtimes: two protocols, and a module for each library. A new one needs a module and a row in `load_runtime`."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from workloads.errors import Diagnostic, UserError
from workloads.serving import model
from workloads.serving.runtimes.runtime import (
    AdapterRuntime,
    EmbeddingRuntime,
    ForwardedRuntime,
    LanguageRuntime,
    Runtime,
    RuntimeProcess,
    RuntimeProcessEnded,
    ScoringRuntime,
    ToolRuntime,
)
from workloads.serving.settings import ServingSettings

__all__ = [
    "AdapterRuntime", "AnyRuntime", "EmbeddingRuntime", "ForwardedRuntime", "LanguageRuntime", "Runtime",
    "RuntimeProcess", "RuntimeProcessEnded", "ScoringRuntime", "ToolRuntime", "load_runtime",
]  # fmt: skip
AnyRuntime = Runtime | LanguageRuntime | EmbeddingRuntime | ForwardedRuntime


def load_runtime(directory: Path, settings: ServingSettings | None = None) -> AnyRuntime:
    """Return the runtime of the model in *directory*, loaded, with every file verified.

    Args:
        directory: A model as `workloads.serving.model` describes it, or a training, whose newest checkpoint is used.

    Raises:
        UserError: there is no model, it is damaged, or its runtime is not installed.
    """
    settings = settings or ServingSettings()
    if (directory / "checkpoints").is_dir():
        return _torch(directory, settings)
    manifest = model.read(directory)
    loaders: dict[str, Callable[[Path, model.Model, ServingSettings], AnyRuntime]]
    loaders = {"onnx": _onnx, "llama.cpp": _llama, "tensorrt": _tensorrt, "vllm": _vllm}
    if manifest.runtime not in loaders:
        problem = f"no such runtime, {json.dumps(manifest.runtime)}"
        expected, help = f"one of {', '.join(loaders)}", "Export the model for one of these"
        raise UserError(Diagnostic(str(directory / model.NAME), problem, expected, help))
    model.fetch_ahead(directory, manifest)
    weights = {name for name in manifest.files if name == model.WEIGHTS or name.endswith(".safetensors")}
    model.verify(directory, manifest, manifest.files.keys() - weights)
    with ThreadPoolExecutor(1) as executor:  # verifying weights takes as long as loading them: both run at once
        verification = executor.submit(model.verify, directory, manifest, weights)
        try:
            runtime = loaders[manifest.runtime](directory, manifest, settings)
        except BaseException:
            verification.result()  # damaged files say more than the library's own error
            raise
        try:
            verification.result()
        except BaseException:
            if isinstance(runtime, RuntimeProcess):
                runtime.close()
            raise
        return runtime


def _onnx(directory: Path, manifest: model.Model, settings: ServingSettings) -> Runtime:
    from workloads.serving.runtimes.onnx import OnnxRuntime

    return OnnxRuntime(directory, manifest, settings.threads)


def _llama(directory: Path, manifest: model.Model, settings: ServingSettings) -> LanguageRuntime | EmbeddingRuntime:
    try:
        from workloads.serving.runtimes import llama
    except ModuleNotFoundError as error:
        problem, note = f"the module {error.name} is missing", "a language model needs llama.cpp"
        help = "Serve the model in the environment of the role workloads"
        raise UserError(Diagnostic(str(directory), problem, help=help, note=note)) from error
    return llama.load(directory, manifest, settings)


def _tensorrt(directory: Path, manifest: model.Model, settings: ServingSettings) -> Runtime:
    from workloads.serving.runtimes.tensorrt import TensorRtRuntime

    return TensorRtRuntime(directory, manifest, settings.max_batch)


def _vllm(directory: Path, manifest: model.Model, settings: ServingSettings) -> ForwardedRuntime:
    from workloads.serving.runtimes.vllm import VllmRuntime

    return VllmRuntime(directory, manifest, settings)


def _torch(directory: Path, settings: ServingSettings) -> Runtime:
    try:
        from workloads.serving.runtimes.torch import TorchRuntime
    except ModuleNotFoundError as error:
        problem, note = f"the module {error.name} is missing", "a training's checkpoint needs PyTorch"
        help = "Export the model, or serve it in the environment of the training"
        raise UserError(Diagnostic(str(directory), problem, help=help, note=note)) from error
    return TorchRuntime(directory, settings.threads)
