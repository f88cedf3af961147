"""Processes that torchrun has started."""

import os
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from workloads.training.config import TrainingConfig
from workloads.training.device import Device
from workloads.training.models import trained

T = TypeVar("T")
BACKENDS = {"cpu": "gloo", "cuda": "nccl", "rocm": "nccl", "gaudi": "hccl"}


class Torchrun:
    """One process per device, with PyTorch's own data parallelism."""

    launcher, sharded = "torchrun", False

    def __init__(self, config: TrainingConfig, device: Device) -> None:
        dist.init_process_group(BACKENDS[device.kind])
        self._config, self._device = config, device
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self.local_rank, self.local_size = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])

    def place(self, model: nn.Module, device: Device) -> nn.Module:
        return model.to(device.torch)

    def share(self, model: nn.Module, optimizer: Optimizer) -> None:
        for tensor in trained(model).values():
            dist.broadcast(tensor, src=0)
        optimizer.load_state_dict(self.broadcast(optimizer.state_dict()))

    def average(self, model: nn.Module, optimizer: Optimizer) -> tuple[nn.Module, Optimizer]:
        ids = [self._device.torch.index] if self._device.torch.index is not None else None
        averaging = DistributedDataParallel(model, device_ids=ids)
        if self._config.compression == "fp16":
            from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import fp16_compress_hook

            averaging.register_comm_hook(None, fp16_compress_hook)
        return averaging, optimizer

    def accumulating(self, model: nn.Module, last: bool) -> AbstractContextManager[Any]:
        if last:
            return nullcontext()
        alone: AbstractContextManager[Any] = model.no_sync()
        return alone

    def averaged(self, optimizer: Optimizer) -> None:
        pass  # backward has waited for them

    def stepping(self, optimizer: Optimizer) -> AbstractContextManager[Any]:
        return nullcontext()

    def all_reduce_sum(self, numbers: Tensor) -> Tensor:
        dist.all_reduce(numbers)
        return numbers

    def broadcast(self, value: T) -> T:
        values: list[Any] = [value]
        dist.broadcast_object_list(values, src=0)
        told: T = values[0]
        return told

    def all_gather(self, value: T) -> list[T]:
        everybody: list[Any] = [None] * self.size
        dist.all_gather_object(everybody, value)
        return everybody

    def leave(self) -> None:
        dist.destroy_process_group()
