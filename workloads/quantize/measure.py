"""Measure size, weight memory and latency of a model and its original in the same run."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path

import onnx

from workloads.quantize.samples import Samples
from workloads.serving.runtimes.onnx import session

BATCHES = (1, 32)

ROUNDS = 3
"""Measurements of a model that the first one finds too slow."""


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of one model."""

    bytes: int
    """Bytes of the file."""
    weight_bytes: int
    """Bytes of the weights in memory."""
    seconds: dict[int, float]
    """Median seconds of one batch, by its rows."""

    @property
    def rows_per_second(self) -> float:
        return max(batch / seconds for batch, seconds in self.seconds.items())

    def speed(self, original: "Figures") -> float:
        """Return the rows per second as a multiple of those of *original*."""
        return self.rows_per_second / original.rows_per_second


def weight_bytes(path: Path) -> int:
    """Return the bytes of the weights of the model *path*."""
    sizes = {
        onnx.TensorProto.FLOAT: 4, onnx.TensorProto.INT32: 4, onnx.TensorProto.INT64: 8, onnx.TensorProto.DOUBLE: 8,
        onnx.TensorProto.FLOAT16: 2, onnx.TensorProto.BFLOAT16: 2,
    }  # fmt: skip
    return sum(prod(tensor.dims) * sizes.get(tensor.data_type, 1) for tensor in onnx.load(path).graph.initializer)


def measure(paths: list[Path], samples: Samples, repeats: int, threads: int) -> list[Figures]:
    """Return the figures of several models, measured in turns: a disturbance slows them all.

    Args:
        repeats: Measured turns of each model, after three warm-up turns.
    """
    sessions = [session(path, threads) for path in paths]
    seconds: list[dict[int, float]] = [{} for _ in paths]
    for batch in BATCHES:
        rows = {name: array[[row % len(samples) for row in range(batch)]] for name, array in samples.inputs.items()}
        times: list[list[float]] = [[] for _ in paths]
        for turn in range(repeats + 3):
            for number in range(len(paths)) if turn % 2 else reversed(range(len(paths))):
                began = time.perf_counter()
                sessions[number].run(None, rows)
                if turn >= 3:
                    times[number].append(time.perf_counter() - began)
        for number, durations in enumerate(times):
            seconds[number][batch] = statistics.median(durations)
    return [
        Figures(path.stat().st_size, weight_bytes(path), medians) for path, medians in zip(paths, seconds, strict=True)
    ]


def judge_speed(first: list[Figures], again: Callable[[], list[Figures]], limit: float) -> float:
    """Return the speed of a model as a multiple of its original's.

    A model that the first measurement finds too slow is judged by the median of three.

    Args:
        first: The figures of the original and of the model, from one measurement.
        again: Measures both once more.
        limit: The lowest speed that needs no further measurement.
    """
    before, after = first
    speeds = [after.speed(before)]
    while speeds[0] < limit and len(speeds) < ROUNDS:
        before, after = again()
        speeds.append(after.speed(before))
    return statistics.median(speeds)
