"""The shape of a language model, from its ``config.json``: the sizes that decide its weights, cache and activations."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from workloads.errors import Diagnostic, UserError
from workloads.foreign import excerpt
from workloads.serving.fit import library
from workloads.serving.fit.cache import LINEAR, WHOLE, CacheSizes, Linear, compressed_cache, layer_kinds, window_of
from workloads.serving.fit.quantisation import Quantisation, quantisation_of

DECLARE = "Publish the model, and declare its layout; its size stays unknown"

SIZE_MAX, NUMBER_MAX = 1 << 30, 10_000
"""The largest size, in values or tokens, and the largest number of layers, heads and experts."""
REQUIRED = ("num_attention_heads", "hidden_size", "num_hidden_layers", "vocab_size", "max_position_embeddings")
"""Keys without which nothing is computed."""
BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}
"""Bytes of one weight or cache value without quantisation, by torch_dtype."""
LATENT_MODELS = ("deepseek_v2", "deepseek_v3", "deepseek_v32", "glm4_moe_lite", "glm_moe_dsa", "kimi_k2")
"""Model types whose cache is one latent vector in vLLM, as computed here. Source: is_deepseek_mla of vLLM 0.32."""
VARIED_MODELS = ("gemma4", "gemma4_unified", "mimo_v2", "mimo_v2_flash")
"""Model types whose layers differ in the width of keys and values, by defaults that config.json may leave out."""
VARIED = ("per_layer_config", "global_head_dim", "num_global_key_value_heads", "swa_head_dim", "swa_v_head_dim",
          "swa_num_key_value_heads")  # fmt: skip
"""Keys for other widths in some layers. Source: the classes of these models in transformers 5.24."""


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
    shared_width: int = 0
    """Width of the hidden layer of all shared experts together."""
    dense: frozenset[int] = frozenset()
    """Layers without experts, besides those before *first_layer* and between the steps."""
    listed: frozenset[int] | None = None
    """All layers with experts, in place of *first_layer* and *step*; None without such a list."""

    def in_layer(self, layer: int) -> bool:
        if self.listed is not None:
            return layer in self.listed
        return layer >= self.first_layer and (layer + 1) % self.step == 0 and layer not in self.dense


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
    quantisation: Quantisation | None
    """The formats of quantised matrices."""
    draft_layers: int
    """Layers of multi-token prediction. Source: arXiv:2412.19437, section 2.2."""
    latent: Latent | None
    experts: Experts | None
    index_heads: int = 0
    """Heads of the index of sparse attention; 0 without one. Source: DeepSeek-V3.2-Exp."""
    index_width: int = 0
    kinds: tuple[str, ...] = ()
    """The kind of attention of each layer; empty: all layers keep all of the text."""
    window: int = 0
    """Tokens that layers with a window keep."""
    linear: Linear | None = None
    compressed: CacheSizes | None = None
    """The cache, if it has entries for several tokens each."""
    output_gate: bool = False
    """Whether the query projection has a gate of the same size. Source: attn_output_gate of Qwen3.5."""
    has_bias: bool = False
    """Whether attention and experts have biases."""
    output_groups: int = 0
    """Groups of the output projection of DeepSeek-V4, each with `output_rank` values."""
    output_rank: int = 0
    query_rank: int = 0
    """Values of the compressed query of DeepSeek-V4."""

    def kind(self, layer: int) -> str:
        return self.kinds[layer] if layer < len(self.kinds) else WHOLE

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
    settings = {**config, **nested} if isinstance(nested, Mapping) else config
    if any(name not in settings for name in REQUIRED):  # published files leave out what the class has by default
        settings = {**library.defaults(config), **settings}
    reader = _Reader(settings)
    dtype = reader.first("dtype", "torch_dtype") or "bfloat16"  # transformers 5 renamed it, and some leave it out
    if not isinstance(dtype, str) or dtype not in BYTES:
        expected, help = f"one of {', '.join(BYTES)}", "Use a model whose config.json names such a precision"
        reader.refuse("torch_dtype", f"the precision {excerpt(repr(dtype))} is not supported", expected, help)
    model_type = str(reader.settings.get("model_type")).removesuffix("_text")
    heads, hidden = reader.size("num_attention_heads"), reader.size("hidden_size")
    has_latent = reader.settings.get("kv_lora_rank") is not None
    if has_latent and model_type not in LATENT_MODELS:
        problem = f"the latent cache (kv_lora_rank) of {model_type!r} is not known"
        reader.refuse("model_type", problem, f"one of {', '.join(LATENT_MODELS)}", DECLARE)
    elif model_type in VARIED_MODELS or any(settings.get(key) for key in VARIED):
        problem = "layers differ in the width of their keys and values"
        reader.refuse("model_type", problem, "one width in all layers", DECLARE)
    layers = reader.size("num_hidden_layers")
    kinds = layer_kinds(settings, layers)
    if kinds is None:
        problem = f"the cache of layers of {model_type!r} is not known"
        reader.refuse("layer_types", problem, "whole, sliding, chunked, linear or compressed attention", DECLARE)
    value_bytes = BYTES.get(str(dtype), 2)
    try:
        quantisation = quantisation_of(settings, settings.get("expert_dtype"))
    except UserError as error:
        reader.wrong += error.diagnostics
        quantisation = None
    shape = Shape(
        model_type=model_type,
        layers=layers,
        hidden=hidden,
        heads=heads,
        key_value_heads=reader.size("num_key_value_heads", heads),
        head_width=reader.size("head_dim", max(hidden // heads, 1)),
        intermediate=reader.intermediate(hidden),
        vocabulary=reader.size("vocab_size"),
        context_tokens=reader.size("max_position_embeddings"),
        tied=bool(reader.settings.get("tie_word_embeddings")),
        value_bytes=value_bytes,
        quantisation=quantisation,
        draft_layers=reader.count("num_nextn_predict_layers") or reader.count("mtp_num_hidden_layers"),
        latent=reader.latent() if has_latent else None,
        experts=reader.experts(),
        index_heads=reader.count("index_n_heads"),
        index_width=reader.count("index_head_dim"),
        kinds=() if kinds is None or set(kinds) == {WHOLE} else kinds,
        window=window_of(settings),
        linear=reader.linear() if kinds and LINEAR in kinds else None,
        compressed=compressed_cache(settings, layers, value_bytes),
        # transformers 5 leaves the gate out of config.json
        output_gate=bool(settings.get("attn_output_gate", model_type.startswith(("qwen3_next", "qwen3_5")))),
        has_bias=model_type == "gpt_oss" or (model_type != "qwen2" and bool(settings.get("attention_bias"))),
        output_groups=reader.count("o_groups"),
        output_rank=reader.count("o_lora_rank"),
        query_rank=0 if has_latent else reader.count("q_lora_rank"),
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
        if name not in self.settings:
            kind = excerpt(repr(self.settings.get("model_type")))
            problem = f"the file has no {name}, and no default of {kind} is known here"
            help = f"Add {name} to config.json" + ("" if library.is_here() else f", or r{library.INSTALL[1:]}")
            self.refuse(name, problem, "the value that the model was made with", help)
            return 1
        most = SIZE_MAX if name.endswith(("_size", "_embeddings", "_dim", "_rank", "_mlp")) else NUMBER_MAX
        if type(value) is not int or not 1 <= value <= most:
            self.refuse(name, f"{excerpt(value)} is not a size", f"a whole number from 1 to {most}", DECLARE)
            return 1
        return value

    def count(self, name: str) -> int:
        """Return the number *name*; 0 if config.json does not have it."""
        return self.size(name) if self.settings.get(name) else 0

    def intermediate(self, hidden: int) -> int:
        """Return the width of a dense layer; a model without one has that of its experts."""
        name = "intermediate_size_mlp" if self.settings.get("intermediate_size_mlp") else "intermediate_size"
        return self.size(name, self.count("moe_intermediate_size") or 4 * hidden)

    def linear(self) -> Linear:
        return Linear(
            key_heads=self.size("linear_num_key_heads"),
            key_width=self.size("linear_key_head_dim"),
            value_heads=self.size("linear_num_value_heads"),
            value_width=self.size("linear_value_head_dim"),
            kernel=self.size("linear_conv_kernel_dim", 4),
        )

    def latent(self) -> Latent:
        return Latent(
            rank=self.size("kv_lora_rank"),
            rope=self.size("qk_rope_head_dim"),
            nope=self.count("qk_nope_head_dim"),
            value=self.count("v_head_dim"),
            query_rank=self.count("q_lora_rank"),
        )

    def _dense_layers(self) -> frozenset[int]:
        """Return the layers without experts, as transformers 5 writes them, or as the classes of Qwen read them."""
        kinds = self.settings.get("mlp_layer_types")
        dense = {at for at, kind in enumerate(kinds) if kind == "dense"} if isinstance(kinds, list) else set()
        return frozenset(dense | (self._layers("mlp_only_layers") or set()))

    def _layers(self, name: str) -> frozenset[int] | None:
        """Return the layers in the list *name*; None if there is no such list."""
        numbers = self.settings.get(name)
        return frozenset(each for each in numbers if type(each) is int) if isinstance(numbers, list) else None

    def experts(self) -> Experts | None:
        # the names of DeepSeek; of Qwen and most others; of Mixtral
        names = ("n_routed_experts", "num_experts", "num_local_experts")
        name = next((name for name in names if self.settings.get(name)), None)
        if name is None:
            return None
        width = "moe_intermediate_size" if self.settings.get("moe_intermediate_size") else "intermediate_size"
        shared, shared_width = self.count("n_shared_experts"), self.count("shared_expert_intermediate_size")
        if str(self.settings.get("model_type")).startswith("llama4"):
            shared = 1
        step = self.first("moe_layer_freq" if name == "n_routed_experts" else "decoder_sparse_step",
                          "interleave_moe_layer_step")  # fmt: skip
        return Experts(
            count=self.size(name),
            per_token=self.size("num_experts_per_tok", 1),
            width=self.size(width),
            shared=shared,
            first_layer=self.count("first_k_dense_replace"),
            step=step if type(step) is int and 0 < step <= NUMBER_MAX else 1,
            shared_width=shared_width or shared * self.size(width),
            dense=self._dense_layers(),
            listed=self._layers("moe_layers"),  # of Llama 4
        )
