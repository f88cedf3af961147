"""A ResNet-50 as ONNX in several precisions, with random weights: the same computation as a trained one."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

CALIBRATION_ROWS = 16
INPUT, OUTPUT = "pixel_values", "logits"
OPSET = 17
FP8_OPSET = 19
"""First operator set with 8-bit floats."""


@dataclass(frozen=True)
class Network:
    """A network and its pictures. The defaults are those of ImageNet, and of transformers' ``ResNetConfig``."""

    side: int = 224
    """Width and height of a picture, in pixels."""
    classes: int = 1000
    shape: Mapping[str, Any] = field(default_factory=dict)
    """Values of ``ResNetConfig`` that differ from those of ResNet-50."""


FULL, SMALL = Network(), Network(side=64)
TINY = Network(32, 10, {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"})


class _Logits(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._model = model

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self._model(pixel_values=x).logits
        return logits


def write_fp32(path: Path, network: Network = FULL, opset: int = OPSET) -> None:
    """Write the network to *path*."""
    from transformers import ResNetConfig, ResNetForImageClassification

    torch.manual_seed(0)
    model = _Logits(ResNetForImageClassification(ResNetConfig(num_labels=network.classes, **network.shape))).eval()
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model, (torch.randn(2, 3, network.side, network.side),), path, input_names=[INPUT], output_names=[OUTPUT],
            opset_version=opset, dynamic_axes={INPUT: {0: "batch"}, OUTPUT: {0: "batch"}}, dynamo=False,
        )  # fmt: skip


def pictures(rows: int, network: Network = FULL) -> np.ndarray:
    """Return random pictures: pixel_values of shape rows × 3 × side × side."""
    return np.random.default_rng(0).standard_normal((rows, 3, network.side, network.side)).astype(np.float32)


def write_int8(fp32: Path, scratch: Path, network: Network = FULL) -> Path:
    """Return the network in 8 bits for TensorRT, quantised as `workloads.quantize` does it."""
    from workloads.quantize.config import QuantizeSettings
    from workloads.quantize.render import Renderer, layers, preprocess
    from workloads.quantize.samples import Samples

    base = preprocess(fp32, scratch)
    renderer = Renderer(base, Samples({INPUT: pictures(CALIBRATION_ROWS, network)}, None), QuantizeSettings(), scratch)
    return renderer.int8(layers(base), signed=True)


def write_fp16(fp32: Path, scratch: Path) -> Path:
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    path = scratch / "fp16.onnx"
    onnx.save(convert_float_to_float16(onnx.load(fp32), keep_io_types=True), path)
    return path


def write_fp8(fp32: Path, scratch: Path, network: Network = FULL) -> Path:
    """Return the network with convolutions and products in FP8 (E4M3), by scales of absolute maxima."""
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    from workloads.quantize.render import preprocess

    path = scratch / "fp8.onnx"
    quantize_static(
        str(preprocess(fp32, scratch)), str(path), _Reader(pictures(CALIBRATION_ROWS, network)),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QFLOAT8E4M3FN, weight_type=QuantType.QFLOAT8E4M3FN,
        op_types_to_quantize=["Conv", "Gemm", "MatMul"], calibrate_method=CalibrationMethod.Distribution,
        extra_options={"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False,
                       "DedicatedQDQPair": True},
    )  # fmt: skip
    return path


class _Reader:
    def __init__(self, rows: np.ndarray) -> None:
        self._batches = iter(np.split(rows, len(rows) // 4))

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self._batches, None)
        return None if batch is None else {INPUT: batch}


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    """Return the mean cosine between the rows of two outputs."""
    one, other = one.astype(np.float64), other.astype(np.float64)
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return float(((one * other).sum(1) / lengths).mean())
