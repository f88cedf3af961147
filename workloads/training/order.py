"""Which examples a process takes at a step: a function of seed, epoch, step and rank, so that resuming is exact."""

from collections.abc import Sequence


def share(batch: int, global_batch: int, rank: int, world: int) -> slice:
    """Return which part of its own indices *rank* takes for a batch.

    Samplers deal an epoch's order out like cards: rank r has those at r, r + world, r + 2 world, …. So the batch with
    number *batch*, the next *global_batch* cards of the deck, is this part of what each has; it is the same batch with
    any number of processes. Shares differ by one where the world does not divide the batch.
    """
    begin, end = (-(-(cards - rank) // world) for cards in (batch * global_batch, (batch + 1) * global_batch))
    return slice(max(0, begin), max(0, end))


def seed_of(seed: int, step: int, rank: int) -> int:
    """Return what a process's random numbers, such as dropout's, begin with at a step.

    They begin anew at each step: so nothing of them has to be saved, and a resumed step has the same ones.
    """
    return ((seed * 1_000_003 + step) * 65_537 + rank) % 2**63


def batches_in(examples: int, global_batch: int) -> int:
    """Return how many whole batches an epoch has; what is over is left out, other examples each epoch."""
    return examples // global_batch


def position(step: int, examples: int, global_batch: int) -> tuple[int, int]:
    """Return the epoch, and the number of the batch in it, that come after *step* steps."""
    return divmod(step, batches_in(examples, global_batch))


def dealt(indices: Sequence[int], batch: int, global_batch: int, rank: int, world: int) -> Sequence[int]:
    """Return which of its *indices* for the epoch *rank* takes for a batch."""
    return indices[share(batch, global_batch, rank, world)]
