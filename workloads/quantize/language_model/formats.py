"""The formats of quantised weights: their scales, and their entries in config.json.

The package compressed-tensors, which vLLM reads checkpoints with, does the arithmetic and the packing.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.quantization import QuantizationArgs, QuantizationConfig, QuantizationScheme
from compressed_tensors.quantization.lifecycle.forward import dequantize, quantize
from compressed_tensors.quantization.utils import calculate_qparams
from torch import Tensor

from workloads.quantize.language_model.matrices import Multiples

# Shape letters: R rows of a matrix (outputs), C columns (inputs), G groups of columns, I and J blocks of both.

BLOCK = 128
"""Rows and columns of a block of FP8, and columns of a group of INT4."""
PACKED = "pack-quantized"
"""compressed-tensors' name for integers that are packed into 32 bits."""


@dataclass(frozen=True, slots=True)
class WeightFormat:
    """A format of quantised weights."""

    name: str
    title: str
    arguments: QuantizationArgs
    multiples: Multiples

    @property
    def is_packed(self) -> bool:
        """Whether the values are integers, packed into 32 bits."""
        return bool(self.arguments.type == "int")

    def quantize(self, weight_RC: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Return the tensors that replace a weight, by their names in its module, and the rounded weight in fp32.

        Scales of integers have the type of *weight_RC*, as vLLM's kernels take them, and those of FP8 are fp32.
        """
        values_RC = weight_RC.float()
        largest = self._largest(values_RC)
        scales, _ = calculate_qparams(-largest, largest, self.arguments)
        if not self.is_packed:
            quantized_RC = quantize(values_RC, scales, None, self.arguments, dtype=torch.float8_e4m3fn)
            tensors = {"weight": quantized_RC, "weight_scale_inv": scales}
            return tensors, dequantize(quantized_RC, scales, None, self.arguments)
        # rounded first: values are then multiples of the scales that the file has
        stored = scales.to(weight_RC.dtype)
        compressor, scheme = BaseCompressor.get_value_from_registry(PACKED), self._scheme()
        tensors = compressor.compress({"weight": values_RC, "weight_scale": stored.float()}, scheme)
        rounded_RC = compressor.decompress(tensors, scheme)["weight"]
        return {**tensors, "weight_scale": stored}, rounded_RC

    def _largest(self, values_RC: Tensor) -> Tensor:
        """Return the largest magnitude of each row, group or block, whichever has a scale of its own."""
        rows, columns = values_RC.shape
        magnitudes_RC = values_RC.abs()
        if not self.is_packed:
            return magnitudes_RC.reshape(rows // BLOCK, BLOCK, columns // BLOCK, BLOCK).amax((1, 3))
        group = self.arguments.group_size or columns
        return magnitudes_RC.reshape(rows, columns // group, group).amax(-1)

    def entry(self, kept: Iterable[str]) -> dict[str, Any]:
        """Return the entry ``quantization_config`` of config.json.

        Args:
            kept: Modules whose matrices are not quantised.
        """
        if not self.is_packed:  # as in the config.json of DeepSeek-V3, which has no matrices to leave out
            return {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic",
                    "weight_block_size": [BLOCK, BLOCK], "modules_to_not_convert": list(kept)}  # fmt: skip
        config = QuantizationConfig(
            config_groups={"group_0": self._scheme()},
            format=PACKED,
            quantization_status="compressed",
            ignore=list(kept),
        )
        entry: dict[str, Any] = config.model_dump(mode="json")
        return entry

    def _scheme(self) -> QuantizationScheme:
        return QuantizationScheme(targets=["Linear"], weights=self.arguments, format=PACKED)


FORMATS = {
    each.name: each
    for each in (
        WeightFormat(
            "int8",
            "8-bit integers, a scale for each row",
            QuantizationArgs(num_bits=8, type="int", strategy="channel"),
            Multiples(rows=64, columns=128),
        ),
        WeightFormat(
            "int4",
            f"4-bit integers, a scale for {BLOCK} columns of a row",
            QuantizationArgs(num_bits=4, type="int", strategy="group", group_size=BLOCK),
            Multiples(rows=64, columns=BLOCK),
        ),
        WeightFormat(
            "fp8",
            f"FP8 (E4M3), a scale for a block of {BLOCK}x{BLOCK}",
            QuantizationArgs(num_bits=8, type="float", strategy="block", block_structure=[BLOCK, BLOCK]),
            Multiples(rows=BLOCK, columns=BLOCK),
        ),
    )
}
"""Formats by name. Integers need 64 rows and 128 columns for vLLM's kernel. Source: GPTQ_MARLIN_MIN_THREAD_N and
GPTQ_MARLIN_MIN_THREAD_K of vLLM 0.32."""
