"""Workers that torchrun started."""

import os
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from workloads.training.config import TrainingConfig
from workloads.training.device import Device
from workloads.training.models import materialize, trainable_state
from workloads.training.precision import Precision

T = TypeVar("T")
BACKENDS = {"cpu": "gloo", "cuda": "cpu:gloo,cuda:nccl", "rocm": "cpu:gloo,cuda:nccl", "gaudi": "cpu:gloo,hpu:hccl"}
"""Backends by device. Stop requests and messages are on the CPU, so they never wait for the work of a GPU."""
GROUP_TIMEOUT = timedelta(minutes=30)
"""Time that a process waits for the others, also while one of them reads a large checkpoint or writes it."""


class Torchrun:
    """One process per device, with PyTorch's own data parallelism."""

    launcher, sharded = "torchrun", False

    def __init__(self, config: TrainingConfig, device: Device) -> None:
        # without a device NCCL guesses it from the rank, and warns at the first barrier
        bound = device.torch if device.kind in ("cuda", "rocm") else None
        dist.init_process_group(BACKENDS[device.kind], timeout=GROUP_TIMEOUT, device_id=bound)
        self._config, self._device = config, device
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self.shards, self.shard = 1, 0
        self.data_rank, self.data_size = self.rank, self.size
        self.local_rank, self.local_size = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])

    def place(self, model: nn.Module, device: Device, precision: Precision) -> nn.Module:
        return materialize(model, device.torch)

    def broadcast_state(self, model: nn.Module, optimizer: Optimizer) -> None:
        for tensor in trainable_state(model).values():
            dist.broadcast(tensor, src=0)
        optimizer.load_state_dict(self.broadcast(optimizer.state_dict()))

    def average_gradients(self, model: nn.Module, optimizer: Optimizer) -> tuple[nn.Module, Optimizer]:
        ids = [self._device.torch.index] if self._device.torch.index is not None else None
        # buffers are the same everywhere: constants, weights of 4 bits, and biases by the load of all processes
        averaging_model = DistributedDataParallel(model, device_ids=ids, broadcast_buffers=False)
        if self._config.compression == "fp16":
            from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import fp16_compress_hook

            averaging_model.register_comm_hook(None, fp16_compress_hook)
        return averaging_model, optimizer

    def accumulation_context(self, model: nn.Module, last: bool) -> AbstractContextManager[Any]:
        if last:
            return nullcontext()
        no_sync: AbstractContextManager[Any] = model.no_sync()
        return no_sync

    def wait_for_gradients(self, optimizer: Optimizer) -> None:
        pass  # the backward pass has waited for the gradients

    def step_context(self, optimizer: Optimizer) -> AbstractContextManager[Any]:
        return nullcontext()

    def all_reduce_sum(self, numbers: Tensor) -> Tensor:
        dist.all_reduce(numbers)
        return numbers

    def any(self, flag: bool) -> bool:
        flags = torch.tensor([int(flag)])
        dist.all_reduce(flags, dist.ReduceOp.MAX)
        return bool(flags)

    def broadcast(self, value: T) -> T:
        values: list[Any] = [value]
        dist.broadcast_object_list(values, src=0)
        received: T = values[0]
        return received

    def all_gather(self, value: T) -> list[T]:
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def leave(self) -> None:
        dist.destroy_process_group()
