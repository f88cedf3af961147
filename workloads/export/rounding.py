"""Weights in 8 bits for llama.cpp, and their gate: the data that the run held out."""

from collections.abc import Iterator
from typing import Any

import gguf
import torch
from torch import Tensor

from workloads.errors import Diagnostic, UserError
from workloads.evaluation import gate
from workloads.export.trained import TrainedModel
from workloads.quantize.language_model.measure import ModelMeter, parse_held_out
from workloads.serving.exported import QUANTIZATION

QUANTIZED = ("q8_0",)
"""Number formats with a scale for each block of a row. llama.cpp's package writes no other ones that are common: those
for 4 bits with two levels of scales (q4_k_m) need its own program."""
Q8_0 = gguf.GGMLQuantizationType.Q8_0
BLOCK = 32
"""Values of a block of Q8_0."""
ROUTERS = ("ffn_gate_inp.weight", "mlp.gate.weight")
"""Ends of the names of routers, llama.cpp's and transformers'; they stay fp32."""


class LessAccurate(UserError):
    """A model whose rounded weights lose more accuracy than allowed."""

    exit_status = 1


def is_quantized(name: str, weight: Tensor) -> bool:
    """Return whether a file in Q8_0 has *weight* in 8 bits: a matrix whose rows are whole blocks."""
    return weight.dim() > 1 and not name.endswith(ROUTERS) and weight.shape[-1] % BLOCK == 0


def round_weights(trained: TrainedModel, dtype: str, may_lose: float) -> dict[str, Any]:
    """Round the weights of *trained* to *dtype*, and return the figures before and after for the lineage.

    Args:
        may_lose: Largest loss of accuracy on each data set of which the run holds a part out.

    Raises:
        LessAccurate: The rounded model loses more.
    """
    model: Any = trained.model.model
    meter = ModelMeter([], parse_held_out(trained.lineage.get("data", ())), context_tokens=0, device="cpu")
    before = meter.measure_model(model)
    for weight, rounded in _rounded_weights(model):
        weight.data = rounded
    after = meter.measure_model(model)
    shortfalls = gate.shortfalls({"results": after}, {"results": before}, may_lose, None)
    if shortfalls:
        problem, expected = f"the rounded model falls short: {'; and '.join(shortfalls)}", f"a loss of {may_lose:g}"
        raise LessAccurate(Diagnostic(f"--dtype {dtype}", problem, expected, "Export in bf16, or raise --may-lose"))
    passed = {"passed": bool(after), "may_lose": may_lose, "before": before, "after": after}
    return {QUANTIZATION: {"format": dtype, "gate": passed}}


def _rounded_weights(model: torch.nn.Module) -> Iterator[tuple[Tensor, Tensor]]:
    for name, weight in model.named_parameters():
        if is_quantized(name, weight):
            blocks = gguf.quants.quantize(weight.detach().float().numpy(), Q8_0)
            yield weight, torch.from_numpy(gguf.quants.dequantize(blocks, Q8_0)).to(weight.dtype)
