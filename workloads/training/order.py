"""The examples that a process takes at a step, as a function of seed, epoch, step and rank, so that resume is exact."""

from collections.abc import Sequence


def share(batch: int, global_batch: int, rank: int, world: int) -> slice:
    """Return the slice of its own indices that *rank* takes for a batch.

    Samplers deal an epoch's order like cards: rank r has the positions r, r + world, r + 2 world, …. Batch number
    *batch* is the next *global_batch* positions of the order, so it has the same examples for each number of processes.
    Shares differ by one if the world does not divide the batch.
    """
    begin, end = (-(-(cards - rank) // world) for cards in (batch * global_batch, (batch + 1) * global_batch))
    return slice(max(0, begin), max(0, end))


def seed_of(seed: int, step: int, rank: int) -> int:
    """Return the seed of a process's random numbers, such as those of dropout, at a step.

    Each step has its own seed: no generator state has to be saved, and a resumed step draws the same numbers.
    """
    return ((seed * 1_000_003 + step) * 65_537 + rank) % 2**63


def batches_in(examples: int, global_batch: int) -> int:
    """Return the number of whole batches in an epoch; the remainder is skipped, with other examples in each epoch."""
    return examples // global_batch


def position(step: int, examples: int, global_batch: int) -> tuple[int, int]:
    """Return the epoch and the number of its batch that follow *step* steps."""
    return divmod(step, batches_in(examples, global_batch))


def deal(indices: Sequence[int], batch: int, global_batch: int, rank: int, world: int) -> Sequence[int]:
    """Return the part of *indices*, those of *rank* for the epoch, that it takes for a batch."""
    return indices[share(batch, global_batch, rank, world)]
