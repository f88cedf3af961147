"""Processes that horovodrun has started."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

from torch import Tensor, nn
from torch.optim import Optimizer

from workloads.training.config import TrainingConfig
from workloads.training.device import Device
from workloads.training.models import trained

T = TypeVar("T")


class Horovod:
    """One process per device. Rank and size are asked each time: in an elastic run they change."""

    launcher, sharded = "horovod", False

    def __init__(self, config: TrainingConfig) -> None:
        import horovod.torch as hvd  # here: alone and under torchrun there may be no Horovod

        hvd.init()
        self.hvd = hvd
        self._passes = config.accumulate
        self._compression = {"none": hvd.Compression.none, "fp16": hvd.Compression.fp16}[config.compression]

    @property
    def rank(self) -> int:
        return int(self.hvd.rank())

    @property
    def size(self) -> int:
        return int(self.hvd.size())

    @property
    def local_rank(self) -> int:
        return int(self.hvd.local_rank())

    @property
    def local_size(self) -> int:
        return int(self.hvd.local_size())

    def place(self, model: nn.Module, device: Device) -> nn.Module:
        return model.to(device.torch)

    def share(self, model: nn.Module, optimizer: Optimizer) -> None:
        self.hvd.broadcast_parameters(trained(model), root_rank=0)
        self.hvd.broadcast_optimizer_state(optimizer, root_rank=0)

    def average(self, model: nn.Module, optimizer: Optimizer) -> tuple[nn.Module, Optimizer]:
        averaging = self.hvd.DistributedOptimizer(
            optimizer,
            named_parameters=[(name, weight) for name, weight in model.named_parameters() if weight.requires_grad],
            compression=self._compression,
            backward_passes_per_step=self._passes,
        )
        averaging.load_state_dict(optimizer.state_dict())  # it takes the parameters along, and leaves the state behind
        return model, averaging

    def accumulating(self, model: nn.Module, last: bool) -> AbstractContextManager[Any]:
        return nullcontext()  # the optimizer counts the passes

    def averaged(self, optimizer: Optimizer) -> None:
        optimizer.synchronize()

    def stepping(self, optimizer: Optimizer) -> AbstractContextManager[Any]:
        context: AbstractContextManager[Any] = optimizer.skip_synchronize()
        return context

    def all_reduce_sum(self, numbers: Tensor) -> Tensor:
        summed: Tensor = self.hvd.allreduce(numbers, op=self.hvd.Sum, name="total")
        return summed

    def broadcast(self, value: T) -> T:
        # the name: without one, None from the others hangs
        told: T = self.hvd.broadcast_object(value, root_rank=0, name="told")
        return told

    def all_gather(self, value: T) -> list[T]:
        everybody: list[T] = self.hvd.allgather_object(value, name="gathered")
        return everybody

    def leave(self) -> None:
        self.hvd.shutdown()
