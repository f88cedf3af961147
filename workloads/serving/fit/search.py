"""The layouts in which a language model fits GPUs, the best first; and what would fit where none does."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from workloads.errors import Diagnostic, UserError
from workloads.serving.fit.layout import GIB, SHARE_PERCENT, Gpus, Layout, Load, Wish
from workloads.serving.fit.memory import StageMemory, describe, memory
from workloads.serving.fit.sizes import Sizes

SHORTEST_TOKENS = 1024
"""The shortest context that a fix proposes."""
MOST_HOSTS = 8
"""The most hosts of one replica that a fix proposes."""


@dataclass(frozen=True, slots=True)
class Fit:
    """How a model fits GPUs in one layout."""

    layout: Layout
    stages: tuple[StageMemory, ...]
    tokens_per_rank: int
    """Tokens that the cache of one data-parallel rank has room for; below 1 the weights do not fit."""
    fits: bool
    """Whether weights, vLLM and the cache of all texts have room."""
    text: str
    """The calculation, in words."""

    @property
    def tokens(self) -> int:
        """Tokens that the cache has room for, over all data-parallel ranks."""
        return max(self.tokens_per_rank, 0) * self.layout.data_parallel

    @property
    def bytes_per_gpu(self) -> int:
        return max(stage.total for stage in self.stages)


class DoesNotFit(UserError):
    """The GPUs have too little memory for the model, or it cannot be divided over them in the declared way."""


def fits(sizes: Sizes, gpus: Gpus, load: Load, wish: Wish | None = None) -> list[Fit]:
    """Return all layouts over *gpus*, those that fit first, each group from the simplest to the most demanding.

    A replica uses as few hosts as it can, and on one host as few GPUs: a model that fits one GPU serves more requests
    as one replica per GPU than divided. A layout within hosts comes before one whose layers need the
    network, and one without data parallelism before one with it. Source: parallelism_scaling of vLLM.
    """
    wish = wish or Wish()
    layouts = [each for each in candidates(sizes, gpus) if wish.allows(each) and _is_usual(each, wish)]
    tried = [_try(sizes, gpus, load, layout) for layout in layouts]
    return sorted(tried, key=lambda fit: (not fit.fits, _effort(fit.layout, gpus)))


def best_fit(sizes: Sizes, gpus: Gpus, load: Load, wish: Wish | None = None) -> Fit:
    """Return the simplest layout that fits.

    Args:
        wish: The declared parts of the layout. Without any, tensor parallelism within a host is preferred.

    Raises:
        DoesNotFit: the message has the calculation, and changes that would fit.
    """
    wish = wish or Wish()
    if load.context_tokens > sizes.context_tokens:
        most = sizes.context_tokens
        problem = f"context_tokens {load.context_tokens} is more than the model takes"
        raise DoesNotFit(Diagnostic("vLLM", problem, f"at most {most}", f"Set context_tokens to {most}"))
    found = fits(sizes, gpus, load, wish)
    if not found:
        raise DoesNotFit(_undividable(sizes, gpus, wish))
    if not found[0].fits:
        raise DoesNotFit(_misfit(sizes, gpus, load, wish, max(found, key=_closeness)))
    return found[0]


def candidates(sizes: Sizes, gpus: Gpus) -> Iterator[Layout]:
    """Yield the layouts of one replica over *gpus*.

    A replica of several hosts takes all their GPUs. Its stages are whole hosts or shares of one, as vLLM recommends.
    """
    for hosts in range(1, gpus.hosts + 1):
        most = gpus.per_host * hosts
        for stage_count in range(1, min(most, sizes.layers) + 1):
            for tensor in _tensor_counts(sizes, most // stage_count):
                for data in _data_counts(sizes, most // stage_count // tensor):
                    layout = Layout(hosts, tensor, stage_count, data, expert_parallel=data > 1)
                    if _places(layout, gpus):
                        yield from _variants(sizes, layout)


def _places(layout: Layout, gpus: Gpus) -> bool:
    """Return whether the hosts can have equal shares of *layout*."""
    if layout.hosts == 1:
        return layout.gpus <= gpus.per_host
    if layout.gpus != gpus.per_host * layout.hosts:
        return False
    return layout.pipeline_parallel % layout.hosts == 0 or layout.pipeline_parallel == 1


def _is_usual(layout: Layout, wish: Wish) -> bool:
    """Return whether what *wish* leaves open is as vLLM recommends it.

    Stages are hosts, data-parallel ranks share whole experts, and a divided latent is for one rank. One rank may have
    whole experts or parts of all. Source: parallelism_scaling, expert_parallel_deployment and
    context_parallel_deployment of vLLM, and single_node_tep of vllm-project/recipes.
    """
    stages = layout.pipeline_parallel in ({1, layout.hosts} if layout.data_parallel == 1 else {1})
    experts = layout.expert_parallel or layout.data_parallel == 1
    one_rank = layout.data_parallel == 1 and (not layout.expert_parallel or wish.expert_parallel is not None)
    context = layout.context_parallel == 1 or one_rank
    return (
        (stages or wish.pipeline_parallel is not None)
        and (experts or wish.expert_parallel is not None)
        and (context or wish.context_parallel is not None)
    )


def _variants(sizes: Sizes, layout: Layout) -> Iterator[Layout]:
    """Yield *layout* with and without whole experts, and with a divided latent, as far as the model can be divided."""
    choices = [layout]
    if sizes.experts:
        choices.append(replace(layout, expert_parallel=not layout.expert_parallel))
    for choice in choices:
        if not _can_divide_layers(sizes, choice):
            continue
        yield choice
        if sizes.has_latent and choice.tensor_parallel > 1:  # each GPU holds a copy of the latent otherwise
            yield replace(choice, context_parallel=choice.tensor_parallel)


def _can_divide_layers(sizes: Sizes, layout: Layout) -> bool:
    """Return whether the width of layers and experts can be divided, in whole blocks of FP8."""
    if sizes.layer_parts and sizes.layer_parts % layout.tensor_parallel:
        return False
    if not sizes.experts:
        return True
    if layout.expert_parallel:
        return 1 < layout.shards <= sizes.experts
    return not sizes.expert_parts or sizes.expert_parts % layout.shards == 0


def _tensor_counts(sizes: Sizes, most: int) -> Iterator[int]:
    """Yield the powers of two that the attention heads can be divided by, in order."""
    for power in range(min(sizes.heads, max(most, 1)).bit_length()):
        tensor = 1 << power
        # a GPU holds whole key-value heads, or several GPUs share one. Source: get_num_kv_heads and QKVParallelLinear
        parts = sizes.cache_parts
        if tensor <= most and sizes.heads % tensor == 0 and (parts % tensor == 0 or tensor % parts == 0):
            yield tensor


def _data_counts(sizes: Sizes, most: int) -> Iterator[int]:
    """Yield the numbers of data-parallel ranks: without experts to share, ranks would be replicas."""
    yield 1
    if sizes.experts:
        yield from (1 << power for power in range(1, most.bit_length()) if 1 << power <= most)


def _effort(layout: Layout, gpus: Gpus) -> tuple[object, ...]:
    """Return the order of layouts: the simplest first."""
    crosses = layout.tensor_parallel > gpus.per_host
    ways = (crosses, layout.data_parallel, layout.context_parallel, layout.expert_parallel, layout.pipeline_parallel)
    return layout.hosts, layout.gpus, *ways


def _try(sizes: Sizes, gpus: Gpus, load: Load, layout: Layout) -> Fit:
    found = memory(sizes, layout, load)
    tokens = min(stage.tokens(gpus.room) for stage in found)
    fits = all(stage.total <= gpus.room for stage in found)
    return Fit(layout, tuple(found), tokens, fits, describe(sizes, layout, load, gpus))


def _closeness(fit: Fit) -> tuple[bool, int, int]:
    """Return the order of layouts that do not fit: the plain one with the most room is the one to explain."""
    plain = fit.layout.context_parallel == 1 and fit.layout.data_parallel == 1
    return plain, fit.tokens, -fit.bytes_per_gpu


def _undividable(sizes: Sizes, gpus: Gpus, wish: Wish) -> Diagnostic:
    total = gpus.per_host * gpus.hosts
    problem = f"the model cannot be divided by {wish}"
    expected = f"at most {total}, the number of GPUs, and a divisor of {sizes.heads} attention heads"
    choices = sorted({layout.tensor_parallel for layout in candidates(sizes, gpus)})
    return Diagnostic("vLLM", problem, expected, f"Set tensor_parallel to one of {', '.join(map(str, choices))}")


def _misfit(sizes: Sizes, gpus: Gpus, load: Load, wish: Wish, closest: Fit) -> Diagnostic:
    room = max(closest.tokens, 0)
    note = f"there is room for {room} tokens" if room else "there is no room for the weights"
    first, *others = _alternatives(sizes, gpus, load, wish, closest)
    help = ", or ".join([first[0].upper() + first[1:], *others])
    expected = "weights and cache that fit the memory of each GPU"
    return Diagnostic("vLLM", f"the model does not fit: {closest.text}", expected, help, note)


def _alternatives(sizes: Sizes, gpus: Gpus, load: Load, wish: Wish, closest: Fit) -> Iterator[str]:
    """Yield changes that fit, each by itself."""

    def fitting(gpus: Gpus = gpus, load: Load = load, wish: Wish = wish) -> Fit | None:
        return next((fit for fit in fits(sizes, gpus, load, wish) if fit.fits), None)

    room, ranks = max(closest.tokens_per_rank, 0), closest.layout.data_parallel
    fewer, shorter = room // load.context_tokens * ranks, room // load.texts_per_rank(closest.layout)
    if fewer and fitting(load=replace(load, parallel=fewer)):
        yield f"set parallel to {fewer}"
    if shorter >= SHORTEST_TOKENS and fitting(load=replace(load, context_tokens=shorter)):
        yield f"set context_tokens to {shorter}"
    elif not fewer and room >= SHORTEST_TOKENS and fitting(load=replace(load, parallel=1, context_tokens=room)):
        yield f"set parallel to 1 and context_tokens to {room}"
    if load.cache_dtype == "auto" and fitting(load=replace(load, cache_dtype="fp8")):
        yield "set kv_cache_dtype to fp8"
    if wish != Wish() and (other := fitting(wish=Wish())):
        yield f"set {other.layout}"
    for hosts in range(gpus.hosts + 1, MOST_HOSTS + 1):
        if more := fitting(gpus=replace(gpus, hosts=hosts), wish=Wish()):
            yield f"serve it on {hosts} such hosts, with {more.layout}"
            break
    largest = _smallest_memory(sizes, gpus, load, wish, closest)
    yield f"serve it on GPUs of {largest} GiB"


def _smallest_memory(sizes: Sizes, gpus: Gpus, load: Load, wish: Wish, closest: Fit) -> int:
    """Return the GiB that a GPU would need in the layout that needs the least."""
    least = min((fit.bytes_per_gpu for fit in fits(sizes, gpus, load, wish)), default=closest.bytes_per_gpu)
    return -(-least * 100 // (SHARE_PERCENT * GIB))
