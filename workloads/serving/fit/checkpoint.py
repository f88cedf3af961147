"""The tensors of a language model: as the heads of its safetensors list them, or computed from its shape."""

import math
from collections.abc import Iterable, Iterator
from pathlib import Path

from workloads.errors import Diagnostic, UserError
from workloads.foreign import parse_object
from workloads.serving.fit.shape import Experts, Latent, Shape

Tensors = dict[str, int]
"""Bytes of each tensor, by its name."""
HEAD_VALUES = 2_000_000
"""The most values in a head; a tensor has six."""
HEAD_BYTES = 100 << 20
"""The largest head of a safetensors file, in bytes. Source: safetensors, MAX_HEADER_SIZE."""
COMPUTED = ("deepseek_v3", "deepseek_v32", "kimi_k2", "llama", "qwen2", "qwen3", "qwen3_moe")
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
    with path.open("rb") as file:
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


def _tensors(shape: Shape) -> Iterator[tuple[str, int]]:
    yield "model.embed_tokens.weight", _plain(shape, shape.vocabulary, shape.hidden)
    for layer in range(shape.layers + shape.draft_layers):
        for name, size in _layer(shape, layer):
            yield f"model.layers.{layer}.{name}", size
    yield "model.norm.weight", _plain(shape, shape.hidden)
    if not shape.tied:
        yield "lm_head.weight", _plain(shape, shape.vocabulary, shape.hidden)


def _layer(shape: Shape, layer: int) -> Iterator[tuple[str, int]]:
    yield from _latent(shape, shape.latent) if shape.latent else _attention(shape)
    experts = shape.experts
    if experts and experts.in_layer(layer):
        yield from _experts(shape, experts)
    else:
        yield from _mlp(shape, "mlp", shape.intermediate)
    yield "input_layernorm.weight", _plain(shape, shape.hidden)
    yield "post_attention_layernorm.weight", _plain(shape, shape.hidden)
    if layer >= shape.layers:  # a layer of multi-token prediction. Source: README_WEIGHTS.md of DeepSeek-V3
        yield "embed_tokens.weight", _plain(shape, shape.vocabulary, shape.hidden)
        yield "shared_head.head.weight", _plain(shape, shape.vocabulary, shape.hidden)
        yield "eh_proj.weight", _plain(shape, shape.hidden, 2 * shape.hidden)
        for norm in ("enorm", "hnorm", "shared_head.norm"):
            yield f"{norm}.weight", _plain(shape, shape.hidden)


def _attention(shape: Shape) -> Iterator[tuple[str, int]]:
    queries, keys = shape.heads * shape.head_width, shape.key_value_heads * shape.head_width
    for name, rows in (("q_proj", queries), ("k_proj", keys), ("v_proj", keys)):
        yield from _linear(shape, f"self_attn.{name}", rows, shape.hidden)
        if shape.model_type == "qwen2":
            yield f"self_attn.{name}.bias", _plain(shape, rows)
    yield from _linear(shape, "self_attn.o_proj", shape.hidden, queries)
    if shape.model_type.startswith("qwen3"):
        yield "self_attn.q_norm.weight", _plain(shape, shape.head_width)
        yield "self_attn.k_norm.weight", _plain(shape, shape.head_width)


def _latent(shape: Shape, latent: Latent) -> Iterator[tuple[str, int]]:
    query = shape.heads * (latent.nope + latent.rope)
    if latent.query_rank:
        yield from _linear(shape, "self_attn.q_a_proj", latent.query_rank, shape.hidden)
        yield "self_attn.q_a_layernorm.weight", _plain(shape, latent.query_rank)
        yield from _linear(shape, "self_attn.q_b_proj", query, latent.query_rank)
    else:
        yield from _linear(shape, "self_attn.q_proj", query, shape.hidden)
    yield from _linear(shape, "self_attn.kv_a_proj_with_mqa", latent.rank + latent.rope, shape.hidden)
    yield "self_attn.kv_a_layernorm.weight", _plain(shape, latent.rank)
    yield from _linear(shape, "self_attn.kv_b_proj", shape.heads * (latent.nope + latent.value), latent.rank)
    yield from _linear(shape, "self_attn.o_proj", shape.hidden, shape.heads * latent.value)
    if shape.index_heads:
        index = shape.index_heads * shape.index_width
        yield from _linear(shape, "self_attn.indexer.wq_b", index, latent.query_rank)
        yield from _linear(shape, "self_attn.indexer.wk", shape.index_width, shape.hidden)
        yield "self_attn.indexer.weights_proj.weight", _plain(shape, shape.index_heads, shape.hidden)
        yield "self_attn.indexer.k_norm.weight", 4 * shape.index_width
        yield "self_attn.indexer.k_norm.bias", 4 * shape.index_width


def _experts(shape: Shape, experts: Experts) -> Iterator[tuple[str, int]]:
    for expert in range(experts.count):
        yield from _mlp(shape, f"mlp.experts.{expert}", experts.width)
    if experts.shared:
        yield from _mlp(shape, "mlp.shared_experts", experts.shared * experts.width)
    yield "mlp.gate.weight", _plain(shape, experts.count, shape.hidden)
    if shape.latent:
        yield "mlp.gate.e_score_correction_bias", 4 * experts.count


def _mlp(shape: Shape, name: str, width: int) -> Iterator[tuple[str, int]]:
    yield from _linear(shape, f"{name}.gate_proj", width, shape.hidden)
    yield from _linear(shape, f"{name}.up_proj", width, shape.hidden)
    yield from _linear(shape, f"{name}.down_proj", shape.hidden, width)


def _linear(shape: Shape, name: str, rows: int, columns: int) -> Iterator[tuple[str, int]]:
    """Yield a matrix, in FP8 with a float32 scale for each block if the model has it."""
    if not shape.block:
        yield f"{name}.weight", _plain(shape, rows, columns)
        return
    yield f"{name}.weight", rows * columns
    scales = 1 if shape.block == 1 else math.ceil(rows / shape.block) * math.ceil(columns / shape.block)
    yield f"{name}.weight_scale_inv", 4 * scales


def _plain(shape: Shape, *sizes: int) -> int:
    """Return the bytes of a tensor without quantisation."""
    return math.prod(sizes) * shape.value_bytes
