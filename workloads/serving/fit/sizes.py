"""The sizes of a language model that decide its memory, as a published model's ``model.json`` has them."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from workloads.errors import Diagnostic, UserError
from workloads.serving.fit.cache import LINEAR, SCALED_TOKEN_BYTES, CacheSizes
from workloads.serving.fit.checkpoint import Tensors, computed_tensors
from workloads.serving.fit.library import tower_values
from workloads.serving.fit.shape import DECLARE, Shape, shape_of

UNKNOWN = "unknown"
"""Key of the reason why the sizes of a published model are not known, in the place of the sizes."""
WINDOWS = ("sliding_attention", "chunked_attention")
"""Kinds of layers that keep a window of the text."""
_LAYER = re.compile(r"(?:^|\.)(?:layers|h)\.(\d+)\.")
_TOWER = re.compile(r"(?:^|\.)(?:vision|visual|audio|speech)[^.]*\.")
"""Weights beside the language model, whose layers are not those of it."""
_ATTENTION = re.compile(r"(?:model\.)?(?:language_model\.)?(?:model\.)?layers\.\d+\.self_attn\.([kvo])_proj\.weight")
_EXPERTS = re.compile(r"\.experts\.")
_WHOLE = re.compile(r"norm|\.gate\.|q_a_proj|kv_a_proj|\.indexer\.")
"""Weights of a layer that tensor parallelism does not divide. Source: ReplicatedLinear in vLLM 0.32, deepseek_v2.py."""
_HEAD = re.compile(r"(?:^|\.)lm_head\.")
_EMBEDDING = re.compile(r"embed_tokens|\bwte\b|word_embeddings")
_PADDED_HEADS = {"deepseek_v32": 64}
"""`Sizes.padded_heads` by the type of a model. Source: vllm-project/recipes 00a8aa9, DeepSeek-V3.2, Troubleshooting."""
_POSITIVE = ("context_tokens", "heads", "cache_bytes_per_token", "fp8_cache_bytes_per_token", "cache_parts")
_BY_LAYER = ("layer_bytes", "whole_bytes", "expert_bytes")


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sizes of a model that decide its memory."""

    context_tokens: int
    """The longest context of the model itself."""
    heads: int
    """Attention heads; the number of GPUs of a tensor-parallel group has to divide it."""
    cache_bytes_per_token: int
    """Cache bytes of one token, over all layers and the whole model, in the model's precision."""
    fp8_cache_bytes_per_token: int
    """The same with a cache in FP8."""
    cache_parts: int
    """The most GPUs that the cache can be divided over by heads; further GPUs hold copies."""
    layer_bytes: tuple[int, ...]
    """Bytes of each layer that tensor parallelism divides: attention, dense layers and shared experts."""
    whole_bytes: tuple[int, ...]
    """Bytes of each layer that every GPU of a stage holds whole."""
    expert_bytes: tuple[int, ...]
    """Bytes of each layer's routed experts; 0 in a dense layer."""
    embedding_bytes: int
    """Bytes of the input embedding, and of all that stands outside the layers."""
    head_bytes: int
    """Bytes of the output embedding; those of the input embedding if they are the same weights."""
    tied: bool = False
    """Whether `head_bytes` are those of the input embedding: one GPU with both holds them once."""
    draft_bytes: int = 0
    """Bytes of the layers for multi-token prediction, which vLLM loads for speculative decoding alone."""
    draft_layers: int = 0
    experts: int = 0
    """Routed experts of a layer."""
    layer_parts: int = 0
    """GPUs among which a dense layer can be divided have to divide this; 0 for any number."""
    expert_parts: int = 0
    """GPUs among which each expert can be divided have to divide this; 0 for any number."""
    hidden: int = 0
    intermediate: int = 0
    vocabulary: int = 0
    expert_width: int = 0
    experts_per_token: int = 0
    latent_values: int = 0
    """Values of a token's latent, with its positional part; 0 without latent attention."""
    latent_head_values: int = 0
    """Values of each head's key and value that vLLM computes from a latent."""
    latent_rank: int = 0
    window_tokens: int = 0
    """Tokens that layers with a window keep of a text."""
    window_bytes_per_token: int = 0
    """Cache bytes of one token over the layers that keep a window."""
    fp8_window_bytes_per_token: int = 0
    padded_heads: int = 0
    """Heads to which vLLM's kernels of sparse attention pad those of a GPU; 0 if they pad none, or it is not known."""
    text_bytes: int = 0
    """Bytes of the states of one text in layers with linear attention, however long it is."""

    @property
    def layers(self) -> int:
        return len(self.layer_bytes)

    @property
    def weight_bytes(self) -> int:
        """Bytes of all weights without those for multi-token prediction."""
        head = 0 if self.tied else self.head_bytes
        layers = sum(self.layer_bytes) + sum(self.whole_bytes) + sum(self.expert_bytes)
        return layers + self.embedding_bytes + head

    @property
    def has_latent(self) -> bool:
        return self.latent_values > 0

    def as_data(self) -> dict[str, Any]:
        """Return the sizes as model.json has them."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


def sizes(config: Mapping[str, Any], tensors: Tensors) -> Sizes:
    """Return the sizes of a model.

    Args:
        config: Hugging Face's ``config.json``.
        tensors: The tensors of its weights, which vLLM keeps in memory unchanged.

    Raises:
        UserError: *config* does not give the shape, or *tensors* have another one.
    """
    shape = shape_of(config)
    _check_widths(shape, tensors)
    return _sizes(shape, tensors, _PADDED_HEADS.get(str(config.get("model_type")), 0))


def computed_sizes(config: Mapping[str, Any]) -> Sizes:
    """Return the sizes of a published model, with its weights as *config* gives them.

    Towers of vision and audio have the precision of the model itself: vLLM and published models do not quantise them.

    Raises:
        UserError: *config* does not give the shape, or its weights are not known.
    """
    shape = shape_of(config)
    tensors = computed_tensors(shape)
    if towers := tower_values(config):
        tensors["vision_tower.weight"] = towers * shape.value_bytes
    return sizes(config, tensors)


def _check_widths(shape: Shape, tensors: Tensors) -> None:
    """Refuse weights whose keys and values are not as wide as the cache is computed, in any layer.

    Classes of models have defaults that config.json leaves out, so that it may not show layers of another width.
    """
    if shape.quantisation:  # layers may have several formats
        return
    times = {"k": shape.heads, "v": shape.heads, "o": shape.key_value_heads}
    found = ((match, size) for name, size in tensors.items() if (match := _ATTENTION.fullmatch(name)))
    if len({size * times[match[1]] for match, size in found}) > 1:
        problem = "the weights have keys or values of another width than config.json declares"
        raise UserError(Diagnostic("config.json, num_key_value_heads", problem, "one width in all layers", DECLARE))


def _sizes(shape: Shape, tensors: Tensors, padded_heads: int) -> Sizes:
    latent, experts = shape.latent, shape.experts
    cache = _cache(shape)
    return Sizes(
        context_tokens=shape.context_tokens,
        heads=shape.heads,
        cache_bytes_per_token=max(cache.token, 1),
        fp8_cache_bytes_per_token=max(cache.fp8_token, 1),
        cache_parts=shape.cache_parts,
        **_weights(shape, tensors),
        draft_layers=shape.draft_layers,
        experts=experts.count if experts else 0,
        layer_parts=_parts(shape, "model.layers.0.mlp.down_proj", shape.intermediate),
        expert_parts=_parts(shape, "model.layers.0.mlp.experts.0.down_proj", experts.width) if experts else 0,
        hidden=shape.hidden,
        intermediate=shape.intermediate,
        vocabulary=shape.vocabulary,
        expert_width=experts.width if experts else 0,
        experts_per_token=experts.per_token if experts else 0,
        latent_values=latent.rank + latent.rope if latent else 0,
        latent_head_values=latent.nope + latent.value if latent else 0,
        latent_rank=latent.rank if latent else 0,
        window_tokens=cache.window,
        window_bytes_per_token=cache.window_token,
        fp8_window_bytes_per_token=cache.fp8_window_token,
        padded_heads=padded_heads,
        text_bytes=cache.text,
    )


def _parts(shape: Shape, module: str, width: int) -> int:
    """Return the whole groups of weights with one scale in *width*."""
    format = shape.quantisation.format_of(module) if shape.quantisation else None
    return width // max(format.group, 1) if format and not format.padded else width


def _cache(shape: Shape) -> CacheSizes:
    """Return the cache of a text over all layers."""
    if shape.compressed:
        return shape.compressed
    values, fp8 = _cache_values(shape)
    windows = sum(kind in WINDOWS for kind in shape.kinds) if shape.window else 0
    linear = sum(kind == LINEAR for kind in shape.kinds)
    whole = shape.layers - windows - linear
    return CacheSizes(
        token=whole * values, fp8_token=whole * fp8, window_token=windows * values, fp8_window_token=windows * fp8,
        window=shape.window if windows else 0, text=linear * (shape.linear.state_bytes if shape.linear else 0),
    )  # fmt: skip


def _cache_values(shape: Shape) -> tuple[int, int]:
    """Return the cache bytes of one token in one layer, in the model's precision and in FP8.

    Keys and values of all key-value heads (arXiv:2309.06180, 2.1; fewer heads: arXiv:2305.13245), or one latent for
    all heads (arXiv:2405.04434, 2.1). Sparse attention adds the key of its index, in FP8 with a float32 scale for each
    128 values (DeepSeek-V3.2-Exp; vLLM 0.32, DeepseekV32IndexerCache).
    """
    if not shape.latent:
        values = 2 * shape.key_value_heads * shape.head_width
        return values * shape.value_bytes, values
    values = shape.latent.rank + shape.latent.rope
    if not shape.index_heads:
        return values * shape.value_bytes, values
    index = shape.index_width + 4 * -(-shape.index_width // 128)
    return values * shape.value_bytes + index, SCALED_TOKEN_BYTES + index


def _weights(shape: Shape, tensors: Tensors) -> dict[str, Any]:
    """Return the bytes of *tensors* by part."""
    divided, whole, experts = ([0] * shape.layers for _ in range(3))
    embedding = head = draft = 0
    for name, size in tensors.items():
        match = None if _TOWER.search(name) else _LAYER.search(name)
        if match and int(match[1]) < shape.layers:
            part = experts if _EXPERTS.search(name) else whole if _WHOLE.search(name) else divided
            part[int(match[1])] += size
        elif match:
            draft += size
        elif _HEAD.search(name):
            head += size
        else:
            embedding += size
    if not any((*divided, *whole, *experts)):  # unusual names: no layer is larger than another
        divided = [(index + 1) * embedding // shape.layers - index * embedding // shape.layers
                   for index in range(shape.layers)]  # fmt: skip
        embedding = 0
    tied = not head
    return {
        "layer_bytes": tuple(divided), "whole_bytes": tuple(whole), "expert_bytes": tuple(experts),
        "embedding_bytes": embedding, "draft_bytes": draft, "tied": tied,
        "head_bytes": head or sum(size for name, size in tensors.items() if _EMBEDDING.search(name)),
    }  # fmt: skip


def parse_sizes(data: Any) -> Sizes:
    """Return the sizes in *data*, of a model.json.

    Raises:
        UserError: they are not sizes.
    """
    if not isinstance(data, Mapping):
        raise _refusal("sizes", data)
    values = dict(data)
    if UNKNOWN in values:
        problem, expected = f"the size of the model is not known ({values[UNKNOWN]})", "a model whose size is known"
        raise UserError(Diagnostic("sizes", problem, expected, "Declare the layout: tensor_parallel and others"))
    if "weight_bytes" in values:  # written before 0.2, with the weights as one number
        values |= {"layer_bytes": [values.pop("weight_bytes")], "whole_bytes": [0], "expert_bytes": [0]}
        cache = values.get("cache_bytes_per_token")
        values |= {"embedding_bytes": 0, "head_bytes": 0, "cache_parts": values.get("cache_parts", 1)}
        values["fp8_cache_bytes_per_token"] = cache // 2 or 1 if type(cache) is int else cache
    names = {field.name for field in fields(Sizes)}
    for name in values.keys() - names:
        raise _refusal(f"sizes.{name}", values[name])
    for name, value in values.items():
        if isinstance(value, list):
            values[name] = tuple(value)
    wrong = [_diagnostic(f"sizes.{name}", value) for name, value in _wrong(values)]
    if wrong:
        raise UserError(*wrong)
    try:
        return Sizes(**values)
    except TypeError as error:
        raise _refusal("sizes", str(error)) from None


def _wrong(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the names and values that are no sizes."""
    for name in _POSITIVE:
        if type(values.get(name)) is not int or values[name] < 1:
            yield name, values.get(name)
    layers = len(values["layer_bytes"]) if isinstance(values.get("layer_bytes"), tuple) else 0
    for name in _BY_LAYER:
        value = values.get(name)
        if not isinstance(value, tuple) or not value or any(type(each) is not int or each < 0 for each in value):
            yield name, value
        elif len(value) != layers:
            yield name, f"{len(value)} layers"
    for name in values.keys() - {*_POSITIVE, *_BY_LAYER, "tied"}:
        if type(values[name]) is not int or values[name] < 0:
            yield name, values[name]


def _refusal(where: str, value: Any) -> UserError:
    return UserError(_diagnostic(where, value))


def _diagnostic(where: str, value: Any) -> Diagnostic:
    return Diagnostic(where, f"{value!r} is not a size", "a whole number of 1 or more", "Publish the model again")
