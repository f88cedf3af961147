"""Batch sampling: each epoch has its own shuffled order, which is dealt to all processes like a deck of cards."""

from collections.abc import Sequence, Sized
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DistributedSampler

from workloads.training import order
from workloads.training.config import TrainingConfig
from workloads.training.workers import Workers


class BatchSampler:
    """The examples that this process takes from a set at each step, while the group of processes stays the same."""

    def __init__(self, config: TrainingConfig, examples: Sized, batch: int, workers: Workers) -> None:
        """
        Args:
            batch: Examples of this set in one step, over all processes.
        """
        self._config, self._examples, self._batch, self._workers = config, examples, batch, workers
        self._epoch, self._first, self._indices = -1, 0, torch.empty(0, dtype=torch.long)

    def batch_at(self, step: int) -> tuple[int, Tensor]:
        """Return the epoch and the examples that this process takes after *step* steps."""
        epoch, number = order.position(step, len(self._examples), self._batch)
        if epoch != self._epoch:
            self._first = number if self._config.elastic else 0
            self._indices = torch.tensor(self._epoch_order(epoch, self._first * self._batch))
            self._epoch = epoch
        share = order.share(number - self._first, self._batch, self._workers.data_rank, self._workers.data_size)
        return epoch, self._indices[share]

    def _epoch_order(self, epoch: int, processed: int) -> Sequence[int]:
        """Return the order of this process's examples in *epoch*; in an elastic run, only those after *processed*."""
        if self._config.elastic:
            from horovod.torch.elastic import ElasticSampler

            elastic = ElasticSampler(self._examples, seed=self._config.seed)
            elastic.load_state_dict({"epoch": epoch, "processed_num": processed})
            return list(elastic)
        sampler: DistributedSampler[Any] = DistributedSampler(
            self._examples,
            self._workers.data_size,
            self._workers.data_rank,
            seed=self._config.seed,
        )
        sampler.set_epoch(epoch)
        return list(sampler)
