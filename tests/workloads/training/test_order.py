"""Which examples come when: the same batches with any number of processes, every example once an epoch."""

from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DistributedSampler

from workloads.training import order


def batches(examples: int, global_batch: int, world: int, epoch: int, seed: int) -> list[list[int]]:
    """Return what all processes together take, batch by batch."""
    deal = []
    for rank in range(world):
        sampler = DistributedSampler(range(examples), world, rank, seed=seed)
        sampler.set_epoch(epoch)
        deal.append(list(sampler))
    return [
        [index for rank in range(world) for index in deal[rank][order.share(batch, global_batch, rank, world)]]
        for batch in range(order.batches_in(examples, global_batch))
    ]


sizes = st.tuples(st.integers(8, 200), st.integers(1, 40), st.integers(1, 7), st.integers(0, 3), st.integers(0, 9))


@given(sizes)
def test_batches_are_the_same_with_any_number_of_processes(size: tuple[int, int, int, int, int]) -> None:
    examples, global_batch, world, epoch, seed = size
    alone = batches(examples, global_batch, 1, epoch, seed)
    assert [sorted(batch) for batch in batches(examples, global_batch, world, epoch, seed)] == list(map(sorted, alone))


@given(sizes)
def test_no_example_comes_twice_in_an_epoch(size: tuple[int, int, int, int, int]) -> None:
    taken = [index for batch in batches(*size) for index in batch]
    assert len(taken) == len(set(taken)) == size[0] // size[1] * size[1]


@given(st.integers(0, 50), st.integers(1, 64), st.integers(1, 9))
def test_shares_differ_by_one_at_most(batch: int, global_batch: int, world: int) -> None:
    shares = [order.share(batch, global_batch, rank, world) for rank in range(world)]
    counts = [share.stop - share.start for share in shares]
    assert sum(counts) == global_batch
    assert max(counts) - min(counts) <= 1


def test_epochs_differ_and_seeds_differ() -> None:
    orders = {tuple(map(tuple, batches(40, 8, 2, epoch, seed))) for epoch in range(3) for seed in range(3)}
    assert len(orders) == 5  # DistributedSampler adds the two up: 0 to 4


def test_a_position_follows_from_the_step() -> None:
    assert [order.position(step, 100, 30) for step in (0, 2, 3, 7)] == [(0, 0), (0, 2), (1, 0), (2, 1)]


def test_random_numbers_differ_by_seed_step_and_rank() -> None:
    seeds = {order.seed_of(seed, step, rank) for seed in range(4) for step in range(40) for rank in range(16)}
    assert len(seeds) == 4 * 40 * 16
