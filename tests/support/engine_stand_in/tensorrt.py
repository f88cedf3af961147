"""The classes of TensorRT that build and run an engine here, by ONNX Runtime on a processor.

An engine is the ONNX file itself. Its operators run as they are written, so 8 bits and floats have their own outputs.
"""

import ctypes
from enum import IntEnum
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

__version__ = "0.0"


class ILogger:
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)

    def __init__(self) -> None:
        pass

    def log(self, severity: int, text: str) -> None:
        pass


class Logger(ILogger):
    def __init__(self, severity: int) -> None:
        super().__init__()


class MemoryPoolType(IntEnum):
    WORKSPACE = 0


class Profile:
    def set_shape(self, name: str, smallest: tuple[int, ...], best: tuple[int, ...], largest: tuple[int, ...]) -> None:
        assert prod(smallest) <= prod(best) <= prod(largest), name


class TimingCache:
    """The settings of each build that had it, a line each."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def serialize(self) -> bytes:
        return self.content


class BuilderConfig:
    builder_optimization_level = 3

    def __init__(self, log: ILogger) -> None:
        self._log = log
        self._cache = TimingCache(b"")
        self._workspace = 0

    def set_memory_pool_limit(self, pool: MemoryPoolType, size: int) -> None:
        assert size > 0
        self._workspace = size

    def create_timing_cache(self, content: bytes) -> TimingCache:
        if content and not content.startswith((b"level ", b"other GPU ")):
            self._log.log(ILogger.WARNING, "Failed to deserialize timing cache. Returning an empty timing cache.")
            content = b""
        return TimingCache(content)

    def set_timing_cache(self, cache: TimingCache, ignore_mismatch: bool) -> bool:
        self._cache = cache
        return ignore_mismatch or not cache.content.startswith(b"other GPU ")

    def get_timing_cache(self) -> TimingCache:
        line = f"level {self.builder_optimization_level}, workspace {self._workspace}\n".encode()
        return TimingCache(self._cache.content + line)

    def add_optimization_profile(self, profile: Profile) -> None:
        pass


class Network:
    model = b""


class OnnxParser:
    num_errors = 0

    def __init__(self, network: Network, log: ILogger) -> None:
        self._network = network

    def parse_from_file(self, path: str) -> bool:
        import onnx

        onnx.checker.check_model(path)
        self._network.model = Path(path).read_bytes()
        return True


class Builder:
    def __init__(self, log: ILogger) -> None:
        self._log = log

    def create_network(self, flags: int) -> Network:
        return Network()

    def create_builder_config(self) -> BuilderConfig:
        return BuilderConfig(self._log)

    def create_optimization_profile(self) -> Profile:
        return Profile()

    def build_serialized_network(self, network: Network, config: BuilderConfig) -> bytes:
        return network.model


class Runtime:
    def __init__(self, log: ILogger) -> None:
        pass

    def deserialize_cuda_engine(self, engine: bytes) -> "Engine":
        return Engine(engine)


class Engine:
    def __init__(self, model: bytes) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 3
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def create_execution_context(self) -> "ExecutionContext":
        return ExecutionContext(self.session)


class ExecutionContext:
    """One input or output is at each address, as float32."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._inputs = [each.name for each in session.get_inputs()]
        self._outputs = [each.name for each in session.get_outputs()]
        self._addresses: dict[str, int] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}

    def set_tensor_address(self, name: str, address: int) -> None:
        self._addresses[name] = address

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> None:
        self._shapes[name] = tuple(shape)

    def infer_shapes(self) -> list[str]:
        return [name for name in self._inputs if name not in self._shapes]

    def execute_async_v3(self, stream: int) -> bool:
        outputs = self._session.run(self._outputs, {name: self._view(name).copy() for name in self._inputs})
        for name, value in zip(self._outputs, outputs, strict=True):
            self._shapes[name] = value.shape
            self._view(name)[...] = value
        return stream != 0

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self._shapes[name]

    def _view(self, name: str) -> np.ndarray:
        shape = self._shapes[name]
        numbers = (ctypes.c_float * prod(shape)).from_address(self._addresses[name])
        return np.frombuffer(numbers, np.float32).reshape(shape)
