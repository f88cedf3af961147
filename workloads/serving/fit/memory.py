"""The memory of each GPU in a layout: weights, cache, and what vLLM needs besides."""

from collections.abc import Iterator
from dataclasses import dataclass

from workloads.serving.fit.layout import GIB, SHARE_PERCENT, Gpus, Layout, Load
from workloads.serving.fit.overhead import overhead_bytes
from workloads.serving.fit.sizes import Sizes


@dataclass(frozen=True, slots=True)
class StageMemory:
    """The bytes on each GPU of one pipeline stage."""

    layers: int
    weights: int
    cache: int
    """The cache of all texts at their full length."""
    beside: int
    cache_per_token: int
    cache_per_text: int = 0
    """The part of a text's cache that does not grow with it: states, and windows that are full."""
    texts: int = 0
    """Texts of a data-parallel rank."""

    @property
    def total(self) -> int:
        return self.weights + self.cache + self.beside

    def tokens(self, room: int) -> int:
        """Return the tokens whose cache fits *room* bytes; below 1 there is no room for weights and vLLM."""
        return (room - self.weights - self.beside - self.texts * self.cache_per_text) // self.cache_per_token


def stages(layers: int, count: int) -> list[range]:
    """Return the layers of each of *count* stages, as vLLM divides them.

    Further layers go to the stages before the last one, which has the output embedding as well.
    Source: get_pp_indices, vLLM 0.32.
    """
    sizes = [layers // count] * count
    for index in range(2, layers % count + 2):
        sizes[-index] += 1
    starts = [sum(sizes[:index]) for index in range(count)]
    return [range(start, start + size) for start, size in zip(starts, sizes, strict=True)]


def memory(sizes: Sizes, layout: Layout, load: Load) -> list[StageMemory]:
    """Return the memory of each stage's GPUs, in the order of the stages."""
    per_stage = stages(sizes.layers, layout.pipeline_parallel)
    return [_stage(sizes, layout, load, layers, index) for index, layers in enumerate(per_stage)]


def _stage(sizes: Sizes, layout: Layout, load: Load, layers: range, index: int) -> StageMemory:
    last = index == layout.pipeline_parallel - 1
    drafts = sizes.draft_layers if load.draft and last else 0
    cached = len(layers) + drafts
    per_token = -(-_token_bytes(sizes, load) * cached // sizes.layers // _cache_shards(sizes, layout))
    texts = load.texts_per_rank(layout)
    tokens, per_text = load.context_tokens * texts, _text_bytes(sizes, layout, load) * cached // sizes.layers
    return StageMemory(
        layers=len(layers),
        weights=sum(_weights(sizes, layout, layers, index == 0, last))
        + (-(-sizes.draft_bytes // layout.shards) if drafts else 0),
        cache=max(per_token, 1) * tokens + per_text * texts,
        beside=overhead_bytes(sizes, layout, load, len(layers)),
        cache_per_token=max(per_token, 1),
        cache_per_text=per_text,
        texts=texts,
    )


def _weights(sizes: Sizes, layout: Layout, layers: range, first: bool, last: bool) -> Iterator[int]:
    """Yield the bytes of a stage's weights on each of its GPUs.

    Attention, dense layers, shared experts and embeddings are divided by tensor parallelism alone: a data-parallel rank
    has them whole. Routed experts are divided over all GPUs of the stage. Source: data_parallel_deployment of vLLM.
    """
    tensor = layout.tensor_parallel
    yield -(-sum(sizes.layer_bytes[layer] for layer in layers) // tensor)
    yield sum(sizes.whole_bytes[layer] for layer in layers)
    yield sum(_expert_share(sizes, layout, sizes.expert_bytes[layer]) for layer in layers)
    if first:
        yield -(-sizes.embedding_bytes // tensor)
    if last and not (first and sizes.tied):
        yield -(-sizes.head_bytes // tensor)


def _expert_share(sizes: Sizes, layout: Layout, size: int) -> int:
    """Return the bytes of a layer's experts on the GPU with the most."""
    if layout.expert_parallel and sizes.experts:
        return size * -(-sizes.experts // layout.shards) // sizes.experts
    return -(-size // layout.shards)


def _cache_shards(sizes: Sizes, layout: Layout) -> int:
    """Return the GPUs that divide the cache of a text; further GPUs of its rank hold copies."""
    return min(layout.tensor_parallel, sizes.cache_parts) * layout.context_parallel


def _text_bytes(sizes: Sizes, layout: Layout, load: Load) -> int:
    """Return the bytes on each GPU of a text's windows and states, over all layers."""
    fp8 = load.cache_dtype == "fp8"
    window = sizes.fp8_window_bytes_per_token if fp8 else sizes.window_bytes_per_token
    kept = min(sizes.window_tokens, load.context_tokens) * window // min(layout.tensor_parallel, sizes.cache_parts)
    return kept + sizes.text_bytes // layout.tensor_parallel


def _token_bytes(sizes: Sizes, load: Load) -> int:
    return sizes.fp8_cache_bytes_per_token if load.cache_dtype == "fp8" else sizes.cache_bytes_per_token


def describe(sizes: Sizes, layout: Layout, load: Load, gpus: Gpus) -> str:
    """Return the calculation for the GPU that needs the most, in words."""
    largest = max(memory(sizes, layout, load), key=lambda stage: stage.total)
    count = f"{layout.gpus} GPU{'s' if layout.gpus > 1 else ''}"
    hosts = f" of {layout.hosts} hosts" if layout.hosts > 1 else ""
    return (
        f"{gb(sizes.weight_bytes)} of weights on {count}{hosts} ({layout}): each has {gb(largest.weights)} of them, "
        f"{gb(largest.cache)} of cache (parallel {load.parallel}, context_tokens {load.context_tokens}) and "
        f"{gb(largest.beside)} beside, {gb(largest.total)} in all, of {gb(gpus.room)} for vLLM "
        f"({SHARE_PERCENT} % of {gpus.memory_bytes / GIB:.4g} GiB)"
    )


def gb(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
