"""Size, memory of weights and latency, of a model and its original in the same run."""

import statistics
import time
from dataclasses import dataclass
from math import prod
from pathlib import Path

import onnx

from workloads.quantize.samples import Samples
from workloads.serving.runtimes.onnx import session

BATCHES = (1, 32)


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one model."""

    bytes: int
    """Of its file."""
    weight_bytes: int
    """Of its weights in memory."""
    seconds: dict[int, float]
    """By batch, the median time of one."""

    @property
    def rows_per_second(self) -> float:
        return max(batch / seconds for batch, seconds in self.seconds.items())


def weight_bytes(path: Path) -> int:
    """Return how many bytes the weights of the model *path* have."""
    sizes = {
        onnx.TensorProto.FLOAT: 4, onnx.TensorProto.INT32: 4, onnx.TensorProto.INT64: 8, onnx.TensorProto.DOUBLE: 8,
        onnx.TensorProto.FLOAT16: 2, onnx.TensorProto.BFLOAT16: 2,
    }  # fmt: skip
    return sum(prod(tensor.dims) * sizes.get(tensor.data_type, 1) for tensor in onnx.load(path).graph.initializer)


def measure(paths: list[Path], samples: Samples, repeats: int, threads: int) -> list[Figures]:
    """Return the figures of several models, which take turns: what slows one down slows the others down as well.

    Args:
        repeats: Turns of each, after three that do not count.
    """
    running = [session(path, threads) for path in paths]
    seconds: list[dict[int, float]] = [{} for _ in paths]
    for batch in BATCHES:
        rows = {name: array[[row % len(samples) for row in range(batch)]] for name, array in samples.inputs.items()}
        times: list[list[float]] = [[] for _ in paths]
        for turn in range(repeats + 3):
            for number in range(len(paths)) if turn % 2 else reversed(range(len(paths))):
                began = time.perf_counter()
                running[number].run(None, rows)
                if turn >= 3:
                    times[number].append(time.perf_counter() - began)
        for number, taken in enumerate(times):
            seconds[number][batch] = statistics.median(taken)
    return [Figures(path.stat().st_size, weight_bytes(path), told) for path, told in zip(paths, seconds, strict=True)]
