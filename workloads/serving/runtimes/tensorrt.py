"""TensorRT: an engine, on the kind of GPU and with the version of the library that built it.

Unverified on hardware.
"""

import importlib
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from workloads.errors import Diagnostic, UserError
from workloads.foreign import read_whole
from workloads.serving.batcher import Arrays
from workloads.serving.model import Model, Tensor
from workloads.serving.runtimes.cuda import CudaGpu
from workloads.serving.wire import DTYPES


def check_engine(engine: Mapping[str, Any], library: str, version: str, architecture: str, max_batch: int) -> None:
    """Check that the engine that *engine* describes runs on this computer.

    Raises:
        UserError: it does not; the message names every difference, with both values.
    """
    here = {"library": library, "version": version, "architecture": architecture}
    wrong = [f"{key} {engine.get(key)}, here it is {value}" for key, value in here.items() if engine.get(key) != value]
    if max_batch > int(engine.get("max_batch", 0)):
        wrong.append(f"max_batch {engine.get('max_batch')}, the server's is {max_batch}")
    if wrong:
        problem = f"the engine was built for {'; '.join(wrong)}"
        help = "Build an engine here with `python -m workloads.quantize.engine`"
        raise UserError(Diagnostic(f"engine of {engine.get('model')}", problem, "an engine for this computer", help))


class TensorRtRuntime:
    """A model that TensorRT runs. The memory for the largest batch is reserved at the start."""

    def __init__(self, directory: Path, model: Model, max_batch: int) -> None:
        engine = model.lineage.get("engine", {})
        gpu = CudaGpu()  # before the library, which may end the process if there is none
        library = engine.get("library", "tensorrt")
        try:
            tensorrt = importlib.import_module(library)
        except ModuleNotFoundError:
            problem, note = f"the module {library} is missing", "an engine needs the library that built it"
            help = "Serve the model in an environment with that library"
            raise UserError(Diagnostic(str(directory), problem, help=help, note=note)) from None
        check_engine(engine, library, tensorrt.__version__, gpu.capability, max_batch)
        [name] = model.files
        gpu.make_current()
        self._runtime = tensorrt.Runtime(tensorrt.Logger(tensorrt.Logger.ERROR))
        self._engine = self._runtime.deserialize_cuda_engine(read_whole(directory / name))
        if self._engine is None:
            problem = f"{library} {tensorrt.__version__} cannot load the engine"
            raise UserError(Diagnostic(str(directory / name), problem, help="Build the engine here"))
        self._context = self._engine.create_execution_context()
        self._gpu, self._stream, self.model = gpu, gpu.stream(), model
        self.description = f"TensorRT {tensorrt.__version__} on a GPU of {gpu.capability}"
        self._places = {
            tensor.name: gpu.allocate(_bytes(tensor, max_batch)) for tensor in (*model.inputs, *model.outputs)
        }
        for name, address in self._places.items():
            self._context.set_tensor_address(name, address)

    def infer(self, inputs: Arrays) -> Arrays:
        self._gpu.make_current()
        arrays = {name: np.ascontiguousarray(array) for name, array in inputs.items()}
        for name, array in arrays.items():
            self._context.set_input_shape(name, array.shape)
            self._gpu.put(array, self._places[name], self._stream)
        if missing := self._context.infer_shapes():
            raise RuntimeError(f"TensorRT wants the shapes of {', '.join(missing)}")
        if not self._context.execute_async_v3(self._stream):
            raise RuntimeError("TensorRT does not compute")
        outputs = {
            tensor.name: np.empty(tuple(self._context.get_tensor_shape(tensor.name)), DTYPES[tensor.datatype])
            for tensor in self.model.outputs
        }
        for name, array in outputs.items():
            self._gpu.get(self._places[name], array, self._stream)
        self._gpu.wait(self._stream)
        return outputs


def _bytes(tensor: Tensor, rows: int) -> int:
    return int(rows * prod(tensor.shape[1:]) * DTYPES[tensor.datatype].itemsize)
