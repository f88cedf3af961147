"""The shape of a language model, from its ``config.json``: the sizes that decide its weights, cache and activations."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from workloads.errors import Diagnostic, UserError
from workloads.foreign import excerpt

SIZE_MAX, NUMBER_MAX = 1 << 30, 10_000
"""The largest size, in values or tokens, and the largest number of layers, heads and experts."""
BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}
"""Bytes of one weight or cache value without quantisation, by torch_dtype."""
LATENT_MODELS = ("deepseek_v2", "deepseek_v3", "deepseek_v32", "kimi_k2")
"""Model types whose cache is one latent vector in vLLM, as computed here. Source: is_deepseek_mla of vLLM 0.32."""


@dataclass(frozen=True, slots=True)
class Latent:
    """Multi-head latent attention. Source: arXiv:2405.04434, section 2.1."""

    rank: int
    """Values of the latent vector, for keys and values of all heads."""
    rope: int
    """Values of the key's positional part, for all heads."""
    nope: int
    """Values of each head's key without position; 0 if config.json does not have them."""
    value: int
    """Values of each head's value; 0 if config.json does not have them."""
    query_rank: int
    """Values of the compressed query; 0 without compression."""


@dataclass(frozen=True, slots=True)
class Experts:
    """A mixture of experts."""

    count: int
    """Routed experts of a layer."""
    per_token: int
    """Routed experts that compute one token."""
    width: int
    """Width of an expert's hidden layer."""
    shared: int
    """Experts that compute every token."""
    first_layer: int
    """The first layer with experts; the layers before it are dense."""
    step: int
    """Every *step*-th layer has experts."""

    def in_layer(self, layer: int) -> bool:
        return layer >= self.first_layer and (self.step == 1 or (layer + 1) % self.step == 0)


@dataclass(frozen=True, slots=True)
class Shape:
    """The shape of a language model."""

    model_type: str
    layers: int
    hidden: int
    heads: int
    key_value_heads: int
    head_width: int
    intermediate: int
    """Width of a dense layer's hidden layer."""
    vocabulary: int
    context_tokens: int
    """The longest context of the model itself."""
    tied: bool
    """Whether input and output embeddings are the same weights."""
    value_bytes: int
    """Bytes of one value without quantisation."""
    block: int
    """Rows of weights that share a scale of block-wise FP8; 0 without FP8. Source: weight_block_size."""
    draft_layers: int
    """Layers of multi-token prediction. Source: arXiv:2412.19437, section 2.2."""
    latent: Latent | None
    experts: Experts | None
    index_heads: int = 0
    """Heads of the index of sparse attention; 0 without one. Source: DeepSeek-V3.2-Exp."""
    index_width: int = 0

    @property
    def cache_parts(self) -> int:
        """The most GPUs that the cache can be divided over by heads; further GPUs hold copies."""
        return 1 if self.latent else self.key_value_heads


def shape_of(config: Mapping[str, Any]) -> Shape:
    """Return the shape that Hugging Face's ``config.json`` describes; for a multimodal model, its ``text_config``.

    Raises:
        UserError: values are missing or not supported; all of them are in the error.
    """
    nested = config.get("text_config")
    reader = _Reader({**config, **nested} if isinstance(nested, Mapping) else config)
    dtype = reader.first("dtype", "torch_dtype")  # transformers 5 renamed it
    if not isinstance(dtype, str) or dtype not in BYTES:
        expected, help = f"one of {', '.join(BYTES)}", "Use a model whose config.json names such a precision"
        reader.refuse("torch_dtype", f"the precision {excerpt(repr(dtype))} is not supported", expected, help)
    model_type = str(reader.settings.get("model_type"))
    heads, hidden = reader.size("num_attention_heads"), reader.size("hidden_size")
    has_latent = reader.settings.get("kv_lora_rank") is not None
    if has_latent and model_type not in LATENT_MODELS:
        problem = f"the latent cache (kv_lora_rank) of {model_type!r} is not supported"
        reader.refuse("model_type", problem, f"one of {', '.join(LATENT_MODELS)}", "Use another model")
    shape = Shape(
        model_type=model_type,
        layers=reader.size("num_hidden_layers"),
        hidden=hidden,
        heads=heads,
        key_value_heads=reader.size("num_key_value_heads", heads),
        head_width=reader.size("head_dim", max(hidden // heads, 1)),
        intermediate=reader.size("intermediate_size", 4 * hidden),
        vocabulary=reader.size("vocab_size"),
        context_tokens=reader.size("max_position_embeddings"),
        tied=bool(reader.settings.get("tie_word_embeddings")),
        value_bytes=BYTES.get(str(dtype), 2),
        block=reader.block(),
        draft_layers=reader.count("num_nextn_predict_layers"),
        latent=reader.latent() if has_latent else None,
        experts=reader.experts(),
        index_heads=reader.count("index_n_heads"),
        index_width=reader.count("index_head_dim"),
    )
    if reader.wrong:
        raise UserError(*reader.wrong)
    return shape


class _Reader:
    """Reads values of a config.json, and collects what is wrong with them."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings = settings
        self.wrong: list[Diagnostic] = []

    def refuse(self, name: str, problem: str, expected: str, help: str) -> None:
        self.wrong.append(Diagnostic(f"config.json, {name}", problem, expected, help))

    def first(self, *names: str) -> Any:
        return next((self.settings[name] for name in names if self.settings.get(name) is not None), None)

    def size(self, name: str, default: int | None = None) -> int:
        """Return the size *name*; *default* if config.json does not have it."""
        value = self.settings.get(name)
        if value is None and default is not None:
            return default
        most = SIZE_MAX if name.endswith(("_size", "_embeddings", "_dim", "_rank")) else NUMBER_MAX
        if type(value) is not int or not 1 <= value <= most:
            help = "Use a model whose config.json has this value"
            self.refuse(name, f"{excerpt(value)} is not a size", f"a whole number from 1 to {most}", help)
            return 1
        return value

    def count(self, name: str) -> int:
        """Return the number *name*; 0 if config.json does not have it."""
        return self.size(name) if self.settings.get(name) else 0

    def block(self) -> int:
        quantised = self.settings.get("quantization_config")
        if not isinstance(quantised, Mapping) or quantised.get("quant_method") != "fp8":
            return 0
        block = quantised.get("weight_block_size")
        rows = block[0] if isinstance(block, list) and block else None
        return rows if type(rows) is int and 0 < rows <= SIZE_MAX else 1

    def latent(self) -> Latent:
        return Latent(
            rank=self.size("kv_lora_rank"),
            rope=self.size("qk_rope_head_dim"),
            nope=self.count("qk_nope_head_dim"),
            value=self.count("v_head_dim"),
            query_rank=self.count("q_lora_rank"),
        )

    def experts(self) -> Experts | None:
        # the names of DeepSeek; of Qwen and most others; of Mixtral
        names = ("n_routed_experts", "num_experts", "num_local_experts")
        name = next((name for name in names if self.settings.get(name)), None)
        if name is None:
            return None
        width = "moe_intermediate_size" if self.settings.get("moe_intermediate_size") else "intermediate_size"
        return Experts(
            count=self.size(name),
            per_token=self.size("num_experts_per_tok"),
            width=self.size(width),
            shared=self.count("n_shared_experts"),
            first_layer=self.count("first_k_dense_replace"),
            step=self.size("moe_layer_freq" if name == "n_routed_experts" else "decoder_sparse_step", 1),
        )
