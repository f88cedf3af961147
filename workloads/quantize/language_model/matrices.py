"""The choice of the matrices of a language model that are quantised, by the names and shapes of its tensors."""

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

LAYER = re.compile(r"(^|\.)layers\.\d+\.")
"""A module in a decoder layer; embeddings and the head are outside, or have names of `KEPT`."""
EXPERTS = re.compile(r"^(.*\.experts)\.\d+\.")
KEPT = ("shared_expert_gate", "embed_tokens", "head", "eh_proj")
"""Last names of modules that stay as they are: in layers for multi-token prediction the embeddings, the head and their
projection. Source: the checkpoint of DeepSeek-V3."""
ROUTER = re.compile(r"\.(gate|router)(\.|$)")
"""A router or a part of one, such as `gate.wg` of Hunyuan and `router.classifier` of LongCat; it stays as it is."""
ENCODER = re.compile(r"(^|\.)(vision|visual|audio)")
"""A module of an encoder of pictures or sound, which stays as it is: the gate has texts alone."""
INDEXER = ".indexer."
"""Part of the names of DeepSeek-V3.2's indexer, which stays as it is: vLLM joins matrices of several formats there."""
FUSED = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"), ("q_a_proj", "kv_a_proj_with_mqa"))
"""Matrices that vLLM joins to one, which needs one format for all. Source: packed_modules_mapping of its models."""
FLOATS = {"F32": 4, "BF16": 2, "F16": 2}
"""Bytes of a value, by the types of weights that can be quantised, as safetensors names them."""
WEIGHT = ".weight"


@dataclass(frozen=True, slots=True)
class Multiples:
    """The numbers of which a matrix must have a multiple of rows and columns."""

    rows: int
    columns: int

    def fits(self, shape: tuple[int, ...]) -> bool:
        return shape[0] % self.rows == 0 and shape[1] % self.columns == 0


@dataclass(frozen=True, slots=True)
class TensorHead:
    """The shape and the type of a tensor in a file."""

    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, slots=True)
class MatrixChoice:
    """The matrices to quantise, and those that stay."""

    quantized: frozenset[str]
    """Names of tensors."""
    kept: tuple[str, ...]
    """Modules with a matrix that stays as it is."""
    unfit: tuple[str, ...]
    """Modules among `kept` whose rows or columns do not fit the format, or those of a matrix that vLLM joins with."""


def choose_matrices(tensors: Mapping[str, TensorHead], multiples: Multiples) -> MatrixChoice:
    """Return the matrices of linear layers that a format with these *multiples* takes.

    If one matrix does not fit, those that vLLM joins with it stay, too.
    """
    matrices = [
        name.removesuffix(WEIGHT)
        for name, head in tensors.items()
        if name.endswith(WEIGHT) and len(head.shape) == 2 and head.dtype in FLOATS
    ]
    candidates = [module for module in matrices if _is_linear(module)]
    groups: dict[str, list[str]] = defaultdict(list)
    for module in candidates:
        groups[_group(module)].append(module)
    unfit = {
        module
        for group in groups.values()
        if not all(multiples.fits(tensors[f"{module}{WEIGHT}"].shape) for module in group)
        for module in group
    }
    quantized = [module for module in candidates if module not in unfit]
    kept = sorted(set(matrices) - set(quantized))
    return MatrixChoice(frozenset(f"{module}{WEIGHT}" for module in quantized), tuple(kept), tuple(sorted(unfit)))


def fused_experts(tensors: Mapping[str, TensorHead]) -> list[str]:
    """Return the names of tensors that have the matrices of several experts."""
    return sorted(name for name, head in tensors.items() if ".experts." in name and len(head.shape) == 3)


def _is_linear(module: str) -> bool:
    last = module.rpartition(".")[2]
    if not LAYER.search(module) or ENCODER.search(module) or ROUTER.search(module) or INDEXER in module:
        return False
    return last not in KEPT and "norm" not in last


def _group(module: str) -> str:
    """Return a name that *module* has in common with the modules that vLLM joins with it."""
    if experts := EXPERTS.match(module):
        return experts[1]
    parent, _, last = module.rpartition(".")
    return next((f"{parent}.{names[0]}" for names in FUSED if last in names), module)


def count_parameters(tensors: Mapping[str, TensorHead], names: Iterable[str]) -> int:
    """Return the number of values in the tensors with these *names*."""
    return sum(math.prod(tensors[name].shape) for name in names)


def saved_bytes(tensors: Mapping[str, TensorHead], choice: MatrixChoice, bits: int) -> int:
    """Return the bytes by which the matrices of *choice* become smaller in *bits*, without the bytes of scales."""
    values = {name: math.prod(tensors[name].shape) for name in choice.quantized}
    return sum(count * FLOATS[tensors[name].dtype] - count * bits // 8 for name, count in values.items())
