"""Quantise an ONNX model: calibrate its ranges once, then write variants with explicit Q/DQ operators."""

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

from workloads.quantize.config import QuantizeSettings
from workloads.quantize.samples import Samples
from workloads.serving.model import WEIGHTS

OPERATORS = ("Conv", "Gemm", "MatMul")
"""Operators that are quantised: those with nearly all of the computation."""
_METHODS = {
    "minmax": CalibrationMethod.MinMax,
    "entropy": CalibrationMethod.Entropy,
    "percentile": CalibrationMethod.Percentile,
}
SEPARATE_BYTES = 16 << 20
"""Size in bytes from which the weights get a file of their own: servers map it, and copy nothing to read it."""
ROWS = 16
"""Rows of a calibration batch."""
BINS = 2048
"""Bins of an activation's histogram, as in TensorRT."""


def preprocess(path: Path, scratch: Path) -> Path:
    """Return the model *path* with inferred shapes, folded constants and a name for every node."""
    target = scratch / "prepared.onnx"
    quant_pre_process(str(path), str(target), skip_symbolic_shape=True)
    model = onnx.load(target)
    for number, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{number}"
    onnx.save(model, target)
    return target


def fuse(path: Path, scratch: Path) -> Path:
    """Return the 8-bit model *path* with the fused operators of ONNX Runtime on a CPU instead of Q/DQ.

    Otherwise each start of a server would fuse them again. The vector layout depends on the processor, so it is left to
    the server.
    """
    target = scratch / "fused.onnx"
    options = SessionOptions()
    options.graph_optimization_level = GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(target)
    options.log_severity_level = 3
    InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return target


def published_files(path: Path, scratch: Path) -> dict[str, Path]:
    """Return the files to publish for the model *path*, by name; a large model's weights are in a separate file."""
    model = onnx.load(path)
    if model.ByteSize() < SEPARATE_BYTES:
        return {"model.onnx": path}
    (separate := scratch / "apart").mkdir()
    onnx.save(model, separate / "model.onnx", save_as_external_data=True, location=WEIGHTS)
    return {name: separate / name for name in ("model.onnx", WEIGHTS)}


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
    """Writes quantised variants of a model, with ranges that are calibrated once."""

    def __init__(self, path: Path, calibration: Samples, settings: QuantizeSettings, scratch: Path) -> None:
        """
        Args:
            path: The model, as `preprocess` returns it.
        """
        self._path, self._scratch, self._settings, self._calibration = path, scratch, settings, calibration
        self._ranges = scratch / "ranges.json"
        self._count = 0

    def int8(self, only: Collection[str], signed: bool) -> Path:
        """Return the model with the layers *only*, at least one, in 8 bits.

        Args:
            signed: True, for TensorRT: activations in int8 around 0, and biases in float. False, for ONNX Runtime on a
                CPU: activations in uint8 over their range, so that a Relu's output begins at 0 and the Relu costs
                nothing, weights in 7 bits, and biases in int32. Products of 8 and 8 bits overflow on a CPU without
                VNNI, and the CPU that serves is unknown. Both kinds have the same ranges.
        """
        self._count += 1
        target = self._scratch / f"int8-{self._count}.onnx"
        if not self._ranges.exists():
            self._calibrate()
        options = {"ActivationSymmetric": signed, "WeightSymmetric": True}
        if signed:
            options |= {"QuantizeBias": False, "DedicatedQDQPair": True}
        logging.getLogger().setLevel(logging.ERROR)  # it warns about the preprocessing above
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
        """Calibrate the ranges. The library's own entropy setting has as many bins as steps, and would cut nothing."""
        options = {"percentile": self._settings.percentile, "num_bins": BINS, "num_quantized_bins": 128}
        with redirect_stdout(io.StringIO()):  # it prints its progress
            calibrator = create_calibrator(
                self._path, list(OPERATORS), str(self._scratch / "augmented.onnx"),
                calibrate_method=_METHODS[self._settings.calibration], extra_options=options,
            )  # fmt: skip
            calibrator.collect_data(_Reader(self._calibration))
            save_tensors_data(calibrator.compute_data(), self._ranges)

    def fp16(self) -> Path:
        """Return the model in fp16, with inputs and outputs in their former types."""
        from onnxruntime.transformers.float16 import convert_float_to_float16

        target = self._scratch / "fp16.onnx"
        onnx.save(convert_float_to_float16(onnx.load(self._path), keep_io_types=True), target)
        return target
