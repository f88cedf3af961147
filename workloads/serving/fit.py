"""Whether a language model fits the GPUs that vLLM divides it over: weights, cache, and what a GPU has for them.

What passes may still be too much: the memory of a GPU is counted as the most that it can be, and what vLLM takes beside
weights and cache as what it takes of small models.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from workloads.errors import WorkloadError

SHARE_PERCENT = 90
"""Of a GPU's memory, for all that vLLM keeps there. Source: ``--gpu-memory-utilization`` of vLLM; its default is 0.9 in
0.6.4 and 0.92 in 0.25, so whoever starts it says this."""
BESIDE = 3 << 29
"""1.5 GiB of each GPU for activations, CUDA graphs and libraries: an estimate of ours, **unverified on hardware**. Of
Llama 3.1 8B logs of vLLM say 1.2 GiB of activations and 0.1 to 0.4 GiB beside PyTorch, of what is DeepSeek-R1 by its
figures, over 8 H200, 6.4 and 7.2 GiB."""
SHORTEST_TOKENS = 1024
"""A context below that is not proposed."""
GIB = 1 << 30
BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}
"""Of a number of the cache, which has the model's precision. Source: ``--kv-cache-dtype auto`` of vLLM."""
LATENT = ("deepseek_v2", "deepseek_v3", "kimi_k2")
"""Those of which vLLM keeps a latent alone. Source: is_deepseek_mla of vLLM, less those that have an index as well."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """What of a model takes memory."""

    weight_bytes: int
    cache_bytes_per_token: int
    """Of all layers, of the whole model."""
    context_tokens: int
    """The most that the model itself takes."""
    heads: int
    """Of attention: the number of GPUs has to divide it."""
    cache_parts: int = 1
    """Over how many GPUs the cache can be divided; further ones have copies."""

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                want = "it is a whole number of 1 or more"
                raise WorkloadError(f"sizes.{name}", f"got {value!r}", want, "Publish the model anew")


@dataclass(frozen=True, slots=True)
class Fit:
    """How a model fits."""

    tensor_parallel: int
    """GPUs of one replica, the fewest that do."""
    context_tokens: int
    parallel: int
    text: str
    """The arithmetic, for a person."""


class DoesNotFit(WorkloadError):
    """A model that the GPUs have no memory for, or that cannot be divided over them so."""


def sizes(config: Mapping[str, Any], weight_bytes: int) -> Sizes:
    """Return the sizes of a model.

    Layers that keep less of a text than all its keys and values, a window or a state, are counted as if they kept all.

    Args:
        config: Hugging Face's ``config.json``; of a model of pictures, too, its ``text_config`` counts.
        weight_bytes: Of its safetensors, which vLLM keeps as they are.

    Raises:
        WorkloadError: it does not say how large the cache is.
    """
    nested = config.get("text_config")
    told = {**config, **nested} if isinstance(nested, Mapping) else config
    dtype = told.get("dtype") or told.get("torch_dtype")  # transformers 5 renamed it
    if dtype not in BYTES:
        want = f"the cache has the precision of the model: {', '.join(BYTES)}"
        raise WorkloadError("config.json, torch_dtype", f"got {dtype!r}", want, "Take a model that says it")
    layers, heads = _number(told, "num_hidden_layers"), _number(told, "num_attention_heads")
    context = _number(told, "max_position_embeddings")
    if told.get("kv_lora_rank") is not None:
        if told.get("model_type") not in LATENT:
            want = f"what vLLM keeps of a latent is known of {', '.join(LATENT)}"
            got = f"got kv_lora_rank and {told.get('model_type')!r}"
            raise WorkloadError("config.json, model_type", got, want, "Take another model")
        # one latent for keys and values of all heads, and the part that says the place. Source: arXiv:2405.04434, 2.1
        kept, parts = _number(told, "kv_lora_rank") + _number(told, "qk_rope_head_dim"), 1
    else:
        parts = heads if told.get("num_key_value_heads") is None else _number(told, "num_key_value_heads")
        wide = told.get("head_dim") is not None
        width = _number(told, "head_dim") if wide else _number(told, "hidden_size") // heads
        kept = 2 * parts * width  # keys and values. Source: arXiv:2309.06180, 2.1, with fewer heads: arXiv:2305.13245
    return Sizes(weight_bytes, layers * kept * BYTES[dtype], context, heads, parts)


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
        context_tokens: Of a prompt and its answer together.
        parallel: Texts that are written at once.
        tensor_parallel: Over how many GPUs it is divided; None: the fewest powers of two that do. One that fits a
            single GPU serves more as a replica on each than divided.

    Raises:
        DoesNotFit: with the arithmetic, and what would fit.
    """
    plan = _Plan(sizes, memory_bytes, context_tokens, parallel)
    if context_tokens > sizes.context_tokens:
        most = sizes.context_tokens
        got, fix = f"got {context_tokens} context_tokens", f"Set context_tokens to {most}"
        raise DoesNotFit("vLLM", got, f"the model takes {most}", fix)
    ways = [tp for tp in _divisors(sizes) if tp <= gpus]
    if tensor_parallel is not None:
        if tensor_parallel > gpus or not _divides(sizes, tensor_parallel):
            want = f"there are {gpus} GPUs, and {sizes.heads} heads of attention, which it has to divide"
            fix = f"Take one of {', '.join(map(str, ways))}"
            raise DoesNotFit("vLLM", f"got tensor_parallel {tensor_parallel}", want, fix)
        ways = [tensor_parallel]
    for tp in ways:
        if plan.takes(tp) <= plan.room:
            return Fit(tp, context_tokens, parallel, plan.text(tp))
    raise _refusal(plan, ways[-1], gpus)


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

    def takes(self, tp: int) -> int:
        """Return the bytes of each GPU."""
        return self.weights(tp) + self.per_token(tp) * self.context_tokens * self.parallel + BESIDE

    def tokens(self, tp: int) -> int:
        """Return for how many tokens there is room, of all texts together; below 1 the weights are too much."""
        return (self.room - self.weights(tp) - BESIDE) // self.per_token(tp)

    def text(self, tp: int) -> str:
        """Return the arithmetic."""
        cache = self.per_token(tp) * self.context_tokens * self.parallel
        return (
            f"{_gb(self.sizes.weight_bytes)} of weights on {tp} GPU{'s' if tp > 1 else ''}: each has "
            f"{_gb(self.weights(tp))} of them, {_gb(cache)} of cache (parallel {self.parallel}, context_tokens "
            f"{self.context_tokens}) and {_gb(BESIDE)} beside, {_gb(self.takes(tp))} in all, of {_gb(self.room)} for "
            f"vLLM ({SHARE_PERCENT} % of {self.memory_bytes / GIB:.4g} GiB)"
        )


def _refusal(plan: _Plan, tp: int, gpus: int) -> DoesNotFit:
    """Return why it does not fit *tp* GPUs, the most that it can be divided over: fewer have more to keep."""
    room = plan.tokens(tp)
    want = f"there is room for {room} tokens" if room > 0 else "there is no room for the weights"
    first, *others = _what_would(plan, tp, max(room, 0), gpus)
    return DoesNotFit("vLLM", f"got {plan.text(tp)}", want, ", or ".join([first[0].upper() + first[1:], *others]))


def _what_would(plan: _Plan, tp: int, room: int, gpus: int) -> Iterator[str]:
    if fewer := room // plan.context_tokens:
        yield f"set parallel to {fewer}"
    if (shorter := room // plan.parallel) >= SHORTEST_TOKENS:
        yield f"set context_tokens to {shorter}"
    elif not fewer and room >= SHORTEST_TOKENS:
        yield f"set parallel to 1 and context_tokens to {room}"
    more = next((way for way in _divisors(plan.sizes) if way > tp and plan.takes(way) <= plan.room), None)
    if more and more <= gpus:
        yield f"set tensor_parallel to {more}"
    larger = f"GPUs of {-(-plan.takes(tp) * 100 // (SHARE_PERCENT * GIB))} GiB"
    yield (
        f"serve it on {more} such GPUs of one host, or on {larger}" if more and more > gpus else f"serve it on {larger}"
    )


def _divisors(sizes: Sizes) -> list[int]:
    """Return the powers of two that a model can be divided by, in order."""
    return [tp for power in range(sizes.heads.bit_length()) if _divides(sizes, tp := 1 << power)]


def _divides(sizes: Sizes, tp: int) -> bool:
    # a GPU has whole heads of keys and values, or several GPUs have one. Source: get_num_kv_heads and QKVParallelLinear
    return sizes.heads % tp == 0 and (sizes.cache_parts % tp == 0 or tp % sizes.cache_parts == 0)


def _number(told: Mapping[str, Any], name: str) -> int:
    value = told.get(name)
    if type(value) is not int or value < 1:
        want = "a model says there how large its cache is, in a whole number"
        raise WorkloadError(f"config.json, {name}", f"got {value!r}", want, "Take a model that says it")
    return value


def _gb(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
