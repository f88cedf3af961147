"""ONNX Runtime: on the GPU if its library finds one, else on the CPU."""

import os
from pathlib import Path

import onnxruntime

from workloads.errors import Diagnostic, UserError
from workloads.serving.batcher import Arrays
from workloads.serving.model import Model


def session(path: Path, threads: int, fused: bool = True) -> onnxruntime.InferenceSession:
    """Return a session for the file *path*.

    Args:
        threads: Threads of one inference; 0: as many as there are cores.
        fused: Whether operators are fused, with 8 bits as 8 bits; False: each runs as written, Q/DQ around floats.

    Raises:
        UserError: the library cannot load it.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or os.cpu_count() or 1
    options.inter_op_num_threads = 1
    # waiting threads would spin, and take the processor from the thread that reads requests
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    if not fused:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    available = onnxruntime.get_available_providers()
    providers = [name for name in ("CUDAExecutionProvider", "CPUExecutionProvider") if name in available]
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # its exceptions have no class of their own
        message = str(error).strip().splitlines()[0]
        problem = f"ONNX Runtime {onnxruntime.__version__} cannot load the model: {message}"
        raise UserError(Diagnostic(str(path), problem, help="Export the model for this version")) from None


class OnnxRuntime:
    """A model that ONNX Runtime runs."""

    def __init__(self, directory: Path, model: Model, threads: int) -> None:
        [name] = [name for name in model.files if name.endswith(".onnx")]
        self.model = model
        self._session = session(directory / name, threads)
        self._outputs = [output.name for output in model.outputs]
        device = self._session.get_providers()[0].removesuffix("ExecutionProvider")
        self.description = f"ONNX Runtime {onnxruntime.__version__} on {device}"

    def infer(self, inputs: Arrays) -> Arrays:
        return dict(zip(self._outputs, self._session.run(self._outputs, dict(inputs)), strict=True))
