"""The cache of a text, by the kinds of a model's layers: whole, sliding, linear and compressed attention.

Sources: vLLM 0.32, kv_cache_interface.py (FullAttentionSpec, SlidingWindowSpec, ChunkedLocalAttentionSpec, MambaSpec,
MLAAttentionSpec); transformers 5.24, the models' own classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

WHOLE, SLIDING, LINEAR = "full_attention", "sliding_attention", "linear_attention"
SCALED_TOKEN_BYTES = 656
"""Bytes of a token's latent in FP8 of sparse attention. Source: vLLM 0.32, flashmla_sparse.py."""
STATE_BYTES = 4
"""Bytes of a value of a recurrent state: float32. Source: mamba_ssm_dtype of Qwen3.5."""
INDEXED = ("deepseek_sparse_attention", "indexed_attention")
"""Sparse attention with an index, by its name before and since transformers 5.24; other models have other indexes."""
SUPPORTED = frozenset((WHOLE, SLIDING, LINEAR, "chunked_attention", *INDEXED))
"""Kinds of layers whose cache is known."""


@dataclass(frozen=True, slots=True)
class Linear:
    """The recurrent state of linear attention. Source: Qwen3-Next, gated delta net."""

    key_heads: int
    key_width: int
    value_heads: int
    value_width: int
    kernel: int
    """Positions that the convolution before it reads."""

    @property
    def state_bytes(self) -> int:
        """Bytes of the state of one text in one layer, however long the text is."""
        recurrent = self.value_heads * self.key_width * self.value_width * STATE_BYTES
        channels = 2 * self.key_heads * self.key_width + self.value_heads * self.value_width
        return recurrent + (self.kernel - 1) * channels * 2


@dataclass(frozen=True, slots=True)
class CacheSizes:
    """The bytes of a text's cache over all layers: those that grow with the text, a window's, and a constant part."""

    token: int
    fp8_token: int
    window_token: int = 0
    """Bytes of a token in the layers that keep a window."""
    fp8_window_token: int = 0
    window: int = 0
    """Tokens of the window."""
    text: int = 0
    """Bytes of the states of one text."""


def layer_kinds(settings: Mapping[str, Any], layers: int) -> tuple[str, ...] | None:
    """Return the kind of each layer; None if config.json has a kind whose cache is not known."""
    if settings.get("compress_ratios") is not None or settings.get("compress_rates") is not None:
        return (WHOLE,) * layers if compressed_cache(settings, layers, 1) else None
    given = settings.get("layer_types")
    if isinstance(given, list) and len(given) >= layers:
        kinds = tuple(str(each) for each in given[:layers])
        # transformers 5 calls states of Mamba and lightning attention linear as well, and any index an indexed one
        own = {LINEAR: "linear_num_value_heads", **dict.fromkeys(INDEXED, "kv_lora_rank")}
        known = all(settings.get(own[kind]) for kind in set(kinds) & own.keys())
        return kinds if known and SUPPORTED.issuperset(kinds) else None
    model_type = str(settings.get("model_type"))
    interval = settings.get("full_attention_interval")
    if settings.get("linear_num_value_heads") and type(interval) is int and interval > 0:
        return tuple(WHOLE if (layer + 1) % interval == 0 else LINEAR for layer in range(layers))
    if settings.get("linear_attn_config") is not None or model_type in ("mamba", "mamba2", "falcon_h1", "jamba"):
        return None
    chunk = settings.get("attention_chunk_size")
    if model_type.startswith("llama4") and type(chunk) is int:
        # every fourth layer has no positions and attends to all. Source: no_rope_layers of Llama4TextConfig
        return tuple(WHOLE if (layer + 1) % 4 == 0 else SLIDING for layer in range(layers))
    return (WHOLE,) * layers


def window_of(settings: Mapping[str, Any]) -> int:
    """Return the tokens that layers with a window keep; 0 if config.json has none."""
    values = (settings.get("sliding_window"), settings.get("attention_chunk_size"))
    return next((value for value in values if type(value) is int and value > 0), 0)


def compressed_cache(settings: Mapping[str, Any], layers: int, value_bytes: int) -> CacheSizes | None:
    """Return the cache of DeepSeek-V4's layers, each with a window and entries for every 4 or 128 tokens; else None.

    An entry is one vector for all heads, and at every 4 tokens also the key of an index. Source: DeepSeek-V4's
    config.json (compress_ratios), and DeepseekV4Attention of transformers 5.24.
    """
    ratios = _compress_ratios(settings, layers)
    width, index = settings.get("head_dim"), settings.get("index_head_dim")
    if ratios is None or type(width) is not int or type(index) is not int:
        return None
    whole = fp8 = 0.0
    for ratio in ratios:
        if ratio:
            key = index + 4 if ratio <= 4 else 0
            whole += (width * value_bytes + key) / ratio
            fp8 += (width + key) / ratio
    window = layers * width
    return CacheSizes(round(whole), round(fp8), window * value_bytes, window, window_of(settings))


def _compress_ratios(settings: Mapping[str, Any], layers: int) -> list[int] | None:
    """Return the tokens of an entry of each layer, 0 for a window alone; None if config.json does not have them.

    transformers 5.24 writes them as `layer_types`, and the tokens of each kind as `compress_rates`.
    """
    ratios, kinds = settings.get("compress_ratios"), settings.get("layer_types")
    rates = settings.get("compress_rates")
    if ratios is None and isinstance(kinds, list) and isinstance(rates, Mapping):
        ratios = [0 if kind == SLIDING else rates.get(str(kind)) for kind in kinds]
    if not isinstance(ratios, list) or len(ratios) < layers:
        return None
    return ratios[:layers] if all(type(each) is int and each >= 0 for each in ratios[:layers]) else None
