"""Whether a language model fits the GPUs that vLLM divides it over, by weights, cache and memory of a GPU.

A model that passes may still need too much memory: the calculation takes the largest memory that a GPU can have, and
an estimate from small models for what vLLM needs besides weights and cache.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from workloads.errors import Diagnostic, UserError

SHARE_PERCENT = 90
"""Percent of a GPU's memory for vLLM. Source: ``--gpu-memory-utilization`` of vLLM. Its default is 0.9 in 0.6.4 and
0.92 in 0.25, so every start of vLLM here sets it."""
OVERHEAD_BYTES = 3 << 29
"""1.5 GiB of each GPU for activations, CUDA graphs and libraries: our estimate, **unverified on hardware**. For
Llama 3.1 8B, logs of vLLM report 1.2 GiB of activations and 0.1 to 0.4 GiB outside PyTorch. For a model with the sizes
of DeepSeek-R1, over 8 H200, they report 6.4 and 7.2 GiB."""
SHORTEST_TOKENS = 1024
"""The shortest context that a fix proposes."""
GIB = 1 << 30
BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}
"""Bytes of one cache value, which has the model's precision. Source: ``--kv-cache-dtype auto`` of vLLM."""
LATENT_MODELS = ("deepseek_v2", "deepseek_v3", "kimi_k2")
"""Model types whose cache is one latent vector in vLLM. Source: is_deepseek_mla of vLLM, less those with an index."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sizes of a model that decide its memory."""

    weight_bytes: int
    cache_bytes_per_token: int
    """Cache bytes of one token, over all layers and the whole model."""
    context_tokens: int
    """The longest context of the model itself."""
    heads: int
    """Attention heads; the number of GPUs has to divide it."""
    cache_parts: int = 1
    """The most GPUs that the cache can be divided over; further GPUs hold copies."""

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                problem, expected = f"{value!r} is not a size", "a whole number of 1 or more"
                raise UserError(Diagnostic(f"sizes.{name}", problem, expected, "Publish the model again"))


@dataclass(frozen=True, slots=True)
class Fit:
    """How a model fits its GPUs."""

    tensor_parallel: int
    """The fewest GPUs that one replica fits."""
    context_tokens: int
    parallel: int
    text: str
    """The calculation, in words."""


class DoesNotFit(UserError):
    """The GPUs have too little memory for the model, or it cannot be divided over so many of them."""


def sizes(config: Mapping[str, Any], weight_bytes: int) -> Sizes:
    """Return the sizes of a model.

    A layer that keeps only a window or a state of the text is counted as if it kept all keys and values.

    Args:
        config: Hugging Face's ``config.json``; for a multimodal model, its ``text_config`` counts.
        weight_bytes: Bytes of the safetensors, which vLLM keeps in memory unchanged.

    Raises:
        UserError: *config* does not give the size of the cache.
    """
    nested = config.get("text_config")
    settings = {**config, **nested} if isinstance(nested, Mapping) else config
    dtype = settings.get("dtype") or settings.get("torch_dtype")  # transformers 5 renamed it
    if dtype not in BYTES:
        problem, expected = f"the precision {dtype!r} is not supported", f"one of {', '.join(BYTES)}"
        help = "Use a model whose config.json names such a precision"
        raise UserError(Diagnostic("config.json, torch_dtype", problem, expected, help))
    layers, heads = _positive_int(settings, "num_hidden_layers"), _positive_int(settings, "num_attention_heads")
    context = _positive_int(settings, "max_position_embeddings")
    if settings.get("kv_lora_rank") is not None:
        if settings.get("model_type") not in LATENT_MODELS:
            problem = f"the latent cache (kv_lora_rank) of {settings.get('model_type')!r} is not supported"
            expected = f"one of {', '.join(LATENT_MODELS)}"
            raise UserError(Diagnostic("config.json, model_type", problem, expected, "Use another model"))
        # one latent for keys and values of all heads, and the positional part. Source: arXiv:2405.04434, 2.1
        values_per_token, parts = (
            _positive_int(settings, "kv_lora_rank") + _positive_int(settings, "qk_rope_head_dim"),
            1,
        )
    else:
        parts = heads if settings.get("num_key_value_heads") is None else _positive_int(settings, "num_key_value_heads")
        has_head_dim = settings.get("head_dim") is not None
        width = _positive_int(settings, "head_dim") if has_head_dim else _positive_int(settings, "hidden_size") // heads
        values_per_token = (
            2 * parts * width
        )  # keys and values. Source: arXiv:2309.06180, 2.1, with fewer heads: arXiv:2305.13245
    return Sizes(weight_bytes, layers * values_per_token * BYTES[dtype], context, heads, parts)


def fit(
    sizes: Sizes,
    memory_bytes: int,
    gpus: int,
    context_tokens: int,
    parallel: int,
    tensor_parallel: int | None = None,
) -> Fit:
    """Return how a model fits *gpus* GPUs of *memory_bytes* each.

    Args:
        context_tokens: Tokens of a prompt and its answer together.
        parallel: Texts that the server generates at once.
        tensor_parallel: GPUs that the model is divided over; None: the fewest powers of two that suffice. A model
            that fits one GPU serves more requests as one replica per GPU than divided.

    Raises:
        DoesNotFit: the message has the calculation, and changes that would fit.
    """
    plan = _Plan(sizes, memory_bytes, context_tokens, parallel)
    if context_tokens > sizes.context_tokens:
        most = sizes.context_tokens
        problem, help = f"context_tokens {context_tokens} is more than the model takes", f"Set context_tokens to {most}"
        raise DoesNotFit(Diagnostic("vLLM", problem, f"at most {most}", help))
    choices = [tp for tp in _divisors(sizes) if tp <= gpus]
    if tensor_parallel is not None:
        if tensor_parallel > gpus or not _can_divide(sizes, tensor_parallel):
            problem = f"the model cannot be divided by tensor_parallel {tensor_parallel}"
            expected = f"at most {gpus}, the number of GPUs, and a divisor of {sizes.heads} attention heads"
            help = f"Set tensor_parallel to one of {', '.join(map(str, choices))}"
            raise DoesNotFit(Diagnostic("vLLM", problem, expected, help))
        choices = [tensor_parallel]
    for tp in choices:
        if plan.bytes_per_gpu(tp) <= plan.room:
            return Fit(tp, context_tokens, parallel, plan.text(tp))
    raise _misfit(plan, choices[-1], gpus)


@dataclass(frozen=True, slots=True)
class _Plan:
    sizes: Sizes
    memory_bytes: int
    context_tokens: int
    parallel: int

    @property
    def room(self) -> int:
        return self.memory_bytes * SHARE_PERCENT // 100

    def weights(self, tp: int) -> int:
        return -(-self.sizes.weight_bytes // tp)

    def per_token(self, tp: int) -> int:
        return -(-self.sizes.cache_bytes_per_token // min(tp, self.sizes.cache_parts))

    def bytes_per_gpu(self, tp: int) -> int:
        """Return the bytes that each GPU needs."""
        return self.weights(tp) + self.per_token(tp) * self.context_tokens * self.parallel + OVERHEAD_BYTES

    def tokens(self, tp: int) -> int:
        """Return the tokens that fit, over all texts together; below 1 the weights do not fit."""
        return (self.room - self.weights(tp) - OVERHEAD_BYTES) // self.per_token(tp)

    def text(self, tp: int) -> str:
        """Return the calculation, in words."""
        cache = self.per_token(tp) * self.context_tokens * self.parallel
        return (
            f"{_gb(self.sizes.weight_bytes)} of weights on {tp} GPU{'s' if tp > 1 else ''}: each has "
            f"{_gb(self.weights(tp))} of them, {_gb(cache)} of cache (parallel {self.parallel}, context_tokens "
            f"{self.context_tokens}) and {_gb(OVERHEAD_BYTES)} beside, "
            f"{_gb(self.bytes_per_gpu(tp))} in all, of {_gb(self.room)} for vLLM "
            f"({SHARE_PERCENT} % of {self.memory_bytes / GIB:.4g} GiB)"
        )


def _misfit(plan: _Plan, tp: int, gpus: int) -> DoesNotFit:
    """Return the error for *tp* GPUs, the most that the model can be divided over: fewer GPUs would hold more each."""
    room = plan.tokens(tp)
    expected = "weights and cache that fit the memory of each GPU"
    note = f"there is room for {room} tokens" if room > 0 else "there is no room for the weights"
    first, *others = _alternatives(plan, tp, max(room, 0), gpus)
    help = ", or ".join([first[0].upper() + first[1:], *others])
    return DoesNotFit(Diagnostic("vLLM", f"the model does not fit: {plan.text(tp)}", expected, help, note))


def _alternatives(plan: _Plan, tp: int, room: int, gpus: int) -> Iterator[str]:
    if fewer := room // plan.context_tokens:
        yield f"set parallel to {fewer}"
    if (shorter := room // plan.parallel) >= SHORTEST_TOKENS:
        yield f"set context_tokens to {shorter}"
    elif not fewer and room >= SHORTEST_TOKENS:
        yield f"set parallel to 1 and context_tokens to {room}"
    more = next(
        (count for count in _divisors(plan.sizes) if count > tp and plan.bytes_per_gpu(count) <= plan.room), None
    )
    if more and more <= gpus:
        yield f"set tensor_parallel to {more}"
    larger = f"GPUs of {-(-plan.bytes_per_gpu(tp) * 100 // (SHARE_PERCENT * GIB))} GiB"
    yield (
        f"serve it on {more} such GPUs of one host, or on {larger}" if more and more > gpus else f"serve it on {larger}"
    )


def _divisors(sizes: Sizes) -> list[int]:
    """Return the powers of two that the model can be divided by, in order."""
    return [tp for power in range(sizes.heads.bit_length()) if _can_divide(sizes, tp := 1 << power)]


def _can_divide(sizes: Sizes, tp: int) -> bool:
    # a GPU holds whole key-value heads, or several GPUs share one. Source: get_num_kv_heads and QKVParallelLinear
    return sizes.heads % tp == 0 and (sizes.cache_parts % tp == 0 or tp % sizes.cache_parts == 0)


def _positive_int(settings: Mapping[str, Any], name: str) -> int:
    value = settings.get(name)
    if type(value) is not int or value < 1:
        problem, expected = f"{value!r} is not a size", "a whole number of 1 or more"
        help = "Use a model whose config.json has this value"
        raise UserError(Diagnostic(f"config.json, {name}", problem, expected, help))
    return value


def _gb(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
