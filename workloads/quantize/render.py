"""From full precision to a smaller one: ranges found once, and rendered as explicit Q/DQ for whoever computes."""

import io
import logging
from collections.abc import Collection, Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import onnx
from onnxruntime import GraphOptimizationLevel, InferenceSession, SessionOptions
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.calibrate import create_calibrator, save_tensors_data
from onnxruntime.quantization.shape_inference import quant_pre_process

from workloads.quantize.config import Settings
from workloads.quantize.samples import Samples
from workloads.serving.model import WEIGHTS

OPERATORS = ("Conv", "Gemm", "MatMul")
"""Those that are computed with 8 bits: all that weighs."""
_METHODS = {
    "minmax": CalibrationMethod.MinMax,
    "entropy": CalibrationMethod.Entropy,
    "percentile": CalibrationMethod.Percentile,
}
APART_BYTES = 16 << 20
"""Of a model whose numbers lie beside it: mapped, they are not copied before they are read."""
ROWS = 16
"""Of a batch of calibration."""
BINS = 2048
"""Of a histogram of what an activation was seen to be, as TensorRT has it."""


def prepared(path: Path, scratch: Path) -> Path:
    """Return the model of *path* with shapes, without what can be computed beforehand, every node with a name."""
    target = scratch / "prepared.onnx"
    quant_pre_process(str(path), str(target), skip_symbolic_shape=True)
    model = onnx.load(target)
    for number, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{number}"
    onnx.save(model, target)
    return target


def fused(path: Path, scratch: Path) -> Path:
    """Return the 8 bits of *path* with the operators that ONNX Runtime computes on a CPU in the place of Q/DQ.

    Else every start of every server finds them anew. What follows from this processor is not among them: the layout of
    its vectors is left to who serves.
    """
    target = scratch / "fused.onnx"
    options = SessionOptions()
    options.graph_optimization_level = GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(target)
    options.log_severity_level = 3
    InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return target


def parts(path: Path, scratch: Path) -> dict[str, Path]:
    """Return the files that the model of *path* is published as, by name; the numbers of a large one are apart."""
    model = onnx.load(path)
    if model.ByteSize() < APART_BYTES:
        return {"model.onnx": path}
    (apart := scratch / "apart").mkdir()
    onnx.save(model, apart / "model.onnx", save_as_external_data=True, location=WEIGHTS)
    return {name: apart / name for name in ("model.onnx", WEIGHTS)}


def layers(path: Path) -> list[str]:
    """Return the names of the nodes that can be quantised, in their order."""
    return [node.name for node in onnx.load(path).graph.node if node.op_type in OPERATORS]


class _Reader(CalibrationDataReader):
    def __init__(self, samples: Samples) -> None:
        self._batches = self._all(samples)

    @staticmethod
    def _all(samples: Samples) -> Iterator[dict[str, Any]]:
        # whole batches only: the histograms of entropy and percentile take arrays of one shape
        whole = len(samples) // ROWS * ROWS or len(samples)
        size = min(ROWS, whole)
        for first in range(0, whole, size):
            yield {name: array[first : first + size] for name, array in samples.inputs.items()}

    def get_next(self) -> dict[str, Any] | None:
        return next(self._batches, None)


class Renderer:
    """Quantises a model any number of times with the ranges of its first."""

    def __init__(self, path: Path, calibration: Samples, settings: Settings, scratch: Path) -> None:
        """
        Args:
            path: As `prepared` returns it.
        """
        self._path, self._scratch, self._settings, self._calibration = path, scratch, settings, calibration
        self._ranges = scratch / "ranges.json"
        self._count = 0

    def int8(self, only: Collection[str], signed: bool) -> Path:
        """Return the model with the layers *only*, of which there is one at least, in 8 bits.

        Args:
            signed: Activations in int8 around 0, biases in float, as TensorRT takes them; else activations in uint8
                from the lowest of their range to the highest, so that what comes out of a Relu begins at 0 and the
                Relu itself costs nothing, weights in 7 bits and biases in int32, as ONNX Runtime fuses them on a CPU:
                on one without VNNI products of 8 and 8 bits overflow, and nobody knows who will serve it. Both have
                the same ranges.
        """
        self._count += 1
        target = self._scratch / f"int8-{self._count}.onnx"
        if not self._ranges.exists():
            self._calibrate()
        options = {"ActivationSymmetric": signed, "WeightSymmetric": True}
        if signed:
            options |= {"QuantizeBias": False, "DedicatedQDQPair": True}
        logging.getLogger().setLevel(logging.ERROR)  # it warns of what was done before
        quantize_static(
            str(self._path), str(target), None,
            quant_format=QuantFormat.QDQ, per_channel=True, reduce_range=not signed,
            op_types_to_quantize=list(OPERATORS), nodes_to_quantize=list(only),
            calibrate_method=_METHODS[self._settings.calibration],
            activation_type=QuantType.QInt8 if signed else QuantType.QUInt8, weight_type=QuantType.QInt8,
            extra_options=options, calibration_cache_path=str(self._ranges),
        )  # fmt: skip
        return target

    def _calibrate(self) -> None:
        """Find the ranges. The library's own entropy has as many bins as there are steps, and would cut nothing."""
        options = {"percentile": self._settings.percentile, "num_bins": BINS, "num_quantized_bins": 128}
        with redirect_stdout(io.StringIO()):  # it tells how it gets on
            calibrator = create_calibrator(
                self._path, list(OPERATORS), str(self._scratch / "augmented.onnx"),
                calibrate_method=_METHODS[self._settings.calibration], extra_options=options,
            )  # fmt: skip
            calibrator.collect_data(_Reader(self._calibration))
            save_tensors_data(calibrator.compute_data(), self._ranges)

    def fp16(self) -> Path:
        """Return the model in fp16, with inputs and outputs as they were."""
        from onnxruntime.transformers.float16 import convert_float_to_float16

        target = self._scratch / "fp16.onnx"
        onnx.save(convert_float_to_float16(onnx.load(self._path), keep_io_types=True), target)
        return target
