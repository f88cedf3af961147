"""The tensors of a language model: as the heads of its safetensors list them, or computed from its shape."""

import math
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from workloads.errors import Diagnostic, UserError
from workloads.foreign import open_regular, parse_object
from workloads.serving.fit.cache import LINEAR, Linear
from workloads.serving.fit.quantisation import Format
from workloads.serving.fit.shape import Experts, Latent, Shape

_EXPERT = re.compile(r"\.experts\.\d+\.")
Tensors = dict[str, int]
"""Bytes of each tensor, by its name."""
HEAD_VALUES = 2_000_000
"""The most values in a head; a tensor has six."""
HEAD_BYTES = 100 << 20
"""The largest head of a safetensors file, in bytes. Source: safetensors, MAX_HEADER_SIZE."""
COMPUTED = (
    "deepseek_v3", "deepseek_v32", "deepseek_v4", "glm4_moe", "glm4_moe_lite", "glm_moe_dsa", "gpt_oss", "kimi_k2",
    "llama", "llama4", "minimax_m2", "mistral", "mixtral", "qwen2", "qwen3", "qwen3_5", "qwen3_5_moe", "qwen3_moe",
    "qwen3_next",
)  # fmt: skip
"""Model types whose tensors follow from the shape."""


def read_tensors(paths: Iterable[Path]) -> Tensors:
    """Return the tensors of the safetensors files *paths*.

    Raises:
        UserError: files are not whole; all of them are in the error.
    """
    tensors: Tensors = {}
    wrong: list[Diagnostic] = []
    for path in paths:
        try:
            tensors |= _read_head(path)
        except UserError as error:
            wrong += error.diagnostics
    if wrong:
        raise UserError(*wrong)
    return tensors


def _read_head(path: Path) -> Tensors:
    """Return the tensors of one file, if it is as long as its head states.

    Source: safetensors' README, "Format": 8 bytes of length, JSON with offsets, then the tensors.
    """
    size = path.stat().st_size
    with open_regular(path, follow=True) as file:
        length = int.from_bytes(file.read(8), "little")
        head = file.read(length) if length <= min(size - 8, HEAD_BYTES) else b""
    try:
        header = parse_object(head, HEAD_BYTES, max_depth=4, max_items=HEAD_VALUES)
        offsets = {name: each["data_offsets"] for name, each in header.items() if name != "__metadata__"}
        tensors = {name: int(end) - int(start) for name, (start, end) in offsets.items()}
        declared = 8 + length + max(end for _, end in offsets.values())
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        problem, help = "its head cannot be read", "Download the file again"
        raise UserError(Diagnostic(str(path), problem, "a safetensors file", help)) from None
    if size != declared:
        problem, expected = f"the file has {size} bytes", f"{declared} bytes, as its head states"
        raise UserError(Diagnostic(str(path), problem, expected, "Download the file again"))
    return tensors


def computed_tensors(shape: Shape) -> Tensors:
    """Return the tensors of a published model of *shape*, by the names that its files have.

    Raises:
        UserError: the model type is not one whose tensors are known.
    """
    if shape.model_type not in COMPUTED:
        problem = f"the weights of {shape.model_type!r} cannot be computed from its config.json"
        help = "Give the directory with its safetensors"
        raise UserError(Diagnostic("config.json, model_type", problem, f"one of {', '.join(COMPUTED)}", help))
    return dict(_tensors(shape))


class _Weight(NamedTuple):
    """A tensor before quantisation."""

    name: str
    sizes: tuple[int, ...]
    matrix: bool = False
    """Whether quantisation may change its format."""
    value_bytes: int = 0
    """Bytes of one value; 0: those of the model."""


def _tensors(shape: Shape) -> Iterator[tuple[str, int]]:
    formats: dict[str, Format | None] = {}
    for weight in _weights(shape):
        module = _EXPERT.sub(
            ".experts.0.", weight.name.removesuffix(".weight")
        )  # all experts of a layer have one format
        if weight.matrix and shape.quantisation and module not in formats:
            formats[module] = shape.quantisation.format_of(module)
        format = formats.get(module) if weight.matrix else None
        if format is None:
            yield weight.name, math.prod(weight.sizes) * (weight.value_bytes or shape.value_bytes)
        else:
            rows, columns = math.prod(weight.sizes[:-1]), weight.sizes[-1]
            yield weight.name, format.weight_bytes(rows, columns)
            yield f"{weight.name}_scale_inv", format.scale_bytes(rows, columns)


def _weights(shape: Shape) -> Iterator[_Weight]:
    yield _Weight("model.embed_tokens.weight", (shape.vocabulary, shape.hidden))
    for layer in range(shape.layers + shape.draft_layers):
        for weight in _layer(shape, layer):
            yield weight._replace(name=f"model.layers.{layer}.{weight.name}")
    yield _Weight("model.norm.weight", (shape.hidden,))
    if not shape.tied:
        yield _Weight("lm_head.weight", (shape.vocabulary, shape.hidden))


def _layer(shape: Shape, layer: int) -> Iterator[_Weight]:
    if shape.latent:
        yield from _latent(shape, shape.latent)
    elif shape.compressed:
        yield from _compressed_attention(shape)
    elif shape.kind(layer) == LINEAR and shape.linear and layer < shape.layers:
        yield from _linear_attention(shape, shape.linear)
    else:
        yield from _attention(shape)
    experts = shape.experts
    if experts and experts.in_layer(layer):
        yield from _experts(shape, experts)
    else:
        yield from _mlp(shape, "mlp", shape.intermediate)
    yield _Weight("input_layernorm.weight", (shape.hidden,))
    yield _Weight("post_attention_layernorm.weight", (shape.hidden,))
    if layer >= shape.layers:  # a layer of multi-token prediction. Source: README_WEIGHTS.md of DeepSeek-V3
        yield _Weight("embed_tokens.weight", (shape.vocabulary, shape.hidden))
        yield _Weight("shared_head.head.weight", (shape.vocabulary, shape.hidden))
        yield _Weight("eh_proj.weight", (shape.hidden, 2 * shape.hidden))
        for norm in ("enorm", "hnorm", "shared_head.norm"):
            yield _Weight(f"{norm}.weight", (shape.hidden,))


def _attention(shape: Shape) -> Iterator[_Weight]:
    queries, keys = shape.heads * shape.head_width, shape.key_value_heads * shape.head_width
    for name, rows in (("q_proj", queries * (1 + shape.output_gate)), ("k_proj", keys), ("v_proj", keys)):
        yield _Weight(f"self_attn.{name}.weight", (rows, shape.hidden), True)
        if shape.model_type == "qwen2" or shape.has_bias:
            yield _Weight(f"self_attn.{name}.bias", (rows,))
    yield _Weight("self_attn.o_proj.weight", (shape.hidden, queries), True)
    if shape.model_type.startswith("qwen3"):
        yield _Weight("self_attn.q_norm.weight", (shape.head_width,))
        yield _Weight("self_attn.k_norm.weight", (shape.head_width,))


def _linear_attention(shape: Shape, linear: Linear) -> Iterator[_Weight]:
    """Yield the weights of a gated delta net. Source: Qwen3NextGatedDeltaNet of transformers 5.24."""
    keys, values = linear.key_heads * linear.key_width, linear.value_heads * linear.value_width
    yield _Weight("linear_attn.in_proj_qkvz.weight", (2 * keys + 2 * values, shape.hidden), True)
    yield _Weight("linear_attn.in_proj_ba.weight", (2 * linear.value_heads, shape.hidden))
    yield _Weight("linear_attn.conv1d.weight", (2 * keys + values, linear.kernel))
    for name, size in (("dt_bias", linear.value_heads), ("A_log", linear.value_heads), ("norm", linear.value_width)):
        yield _Weight(f"linear_attn.{name}", (size,))
    yield _Weight("linear_attn.out_proj.weight", (shape.hidden, values), True)


def _latent(shape: Shape, latent: Latent) -> Iterator[_Weight]:
    query = shape.heads * (latent.nope + latent.rope)
    if latent.query_rank:
        yield _Weight("self_attn.q_a_proj.weight", (latent.query_rank, shape.hidden), True)
        yield _Weight("self_attn.q_a_layernorm.weight", (latent.query_rank,))
        yield _Weight("self_attn.q_b_proj.weight", (query, latent.query_rank), True)
    else:
        yield _Weight("self_attn.q_proj.weight", (query, shape.hidden), True)
    yield _Weight("self_attn.kv_a_proj_with_mqa.weight", (latent.rank + latent.rope, shape.hidden), True)
    yield _Weight("self_attn.kv_a_layernorm.weight", (latent.rank,))
    yield _Weight("self_attn.kv_b_proj.weight", (shape.heads * (latent.nope + latent.value), latent.rank), True)
    yield _Weight("self_attn.o_proj.weight", (shape.hidden, shape.heads * latent.value), True)
    if shape.index_heads:
        yield _Weight("self_attn.indexer.wq_b.weight", (shape.index_heads * shape.index_width, latent.query_rank), True)
        yield _Weight("self_attn.indexer.wk.weight", (shape.index_width, shape.hidden), True)
        yield _Weight("self_attn.indexer.weights_proj.weight", (shape.index_heads, shape.hidden))
        yield _Weight("self_attn.indexer.k_norm.weight", (shape.index_width,), value_bytes=4)
        yield _Weight("self_attn.indexer.k_norm.bias", (shape.index_width,), value_bytes=4)


def _compressed_attention(shape: Shape) -> Iterator[_Weight]:
    """Yield the weights of DeepSeek-V4's attention, with compressor and index as its larger layers have them.

    Source: DeepseekV4Attention of transformers 5.24.
    """
    heads = shape.heads * shape.head_width
    yield _Weight("self_attn.q_a_proj.weight", (shape.query_rank, shape.hidden), True)
    yield _Weight("self_attn.q_b_proj.weight", (heads, shape.query_rank), True)
    yield _Weight("self_attn.kv_proj.weight", (shape.head_width, shape.hidden), True)
    groups, rank = max(shape.output_groups, 1), shape.output_rank or shape.hidden
    yield _Weight("self_attn.o_a_proj.weight", (groups * rank, heads // groups), True)
    yield _Weight("self_attn.o_b_proj.weight", (shape.hidden, groups * rank), True)
    for name in ("kv_proj", "gate_proj"):
        yield _Weight(f"self_attn.compressor.{name}.weight", (2 * shape.head_width, shape.hidden))
        yield _Weight(f"self_attn.indexer.{name}.weight", (2 * shape.index_width, shape.hidden))
    yield _Weight("self_attn.indexer.q_b_proj.weight", (shape.index_heads * shape.index_width, shape.query_rank), True)


def _experts(shape: Shape, experts: Experts) -> Iterator[_Weight]:
    for expert in range(experts.count):
        yield from _mlp(shape, f"mlp.experts.{expert}", experts.width)
        if shape.has_bias:
            yield _Weight(f"mlp.experts.{expert}.bias", (2 * experts.width + shape.hidden,))
    if experts.shared_width:
        yield from _mlp(shape, "mlp.shared_experts", experts.shared_width)
    yield _Weight("mlp.gate.weight", (experts.count, shape.hidden))
    if shape.latent or shape.compressed:
        yield _Weight("mlp.gate.e_score_correction_bias", (experts.count,), value_bytes=4)


def _mlp(shape: Shape, name: str, width: int) -> Iterator[_Weight]:
    yield _Weight(f"{name}.gate_proj.weight", (width, shape.hidden), True)
    yield _Weight(f"{name}.up_proj.weight", (width, shape.hidden), True)
    yield _Weight(f"{name}.down_proj.weight", (shape.hidden, width), True)
