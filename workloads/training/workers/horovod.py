"""Workers that horovodrun started."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from workloads.errors import Diagnostic, UserError
from workloads.training.config import TrainingConfig
from workloads.training.device import Device
from workloads.training.models import materialize, trainable_state
from workloads.training.precision import Precision

T = TypeVar("T")


def check_operations(kind: str, nccl: bool) -> None:
    """Raise if the processes train on devices of *kind* and this Horovod cannot exchange gradients between GPUs.

    Args:
        nccl: Whether Horovod is built with NCCL.

    Raises:
        UserError: Gradients would go over host memory and TCP without a message.
    """
    if kind in ("cuda", "rocm") and not nccl:
        problem, note = "Horovod is built without NCCL", "the gradients of GPUs would go over host memory and TCP"
        help = "Start the run with torchrun, or set operations of role workloads to NCCL"
        raise UserError(Diagnostic("launcher", problem, "Horovod with NCCL, or torchrun", help, note))


class Horovod:
    """One process per device. Rank and size are read at each use, as they change in an elastic run."""

    launcher, sharded, shards, shard = "horovod", False, 1, 0

    def __init__(self, config: TrainingConfig) -> None:
        import horovod.torch as hvd  # imported here: other launchers work without Horovod

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

    @property
    def data_rank(self) -> int:
        return self.rank

    @property
    def data_size(self) -> int:
        return self.size

    def place(self, model: nn.Module, device: Device, precision: Precision) -> nn.Module:
        return materialize(model, device.torch)

    def broadcast_state(self, model: nn.Module, optimizer: Optimizer) -> None:
        self.hvd.broadcast_parameters(trainable_state(model), root_rank=0)
        self.hvd.broadcast_optimizer_state(optimizer, root_rank=0)

    def average_gradients(self, model: nn.Module, optimizer: Optimizer) -> tuple[nn.Module, Optimizer]:
        averaging_optimizer = self.hvd.DistributedOptimizer(
            optimizer,
            named_parameters=[(name, weight) for name, weight in model.named_parameters() if weight.requires_grad],
            compression=self._compression,
            backward_passes_per_step=self._passes,
        )
        averaging_optimizer.load_state_dict(optimizer.state_dict())  # the new optimizer has the parameters alone
        return model, averaging_optimizer

    def accumulation_context(self, model: nn.Module, last: bool) -> AbstractContextManager[Any]:
        return nullcontext()  # the optimizer counts the passes

    def wait_for_gradients(self, optimizer: Optimizer) -> None:
        optimizer.synchronize()

    def step_context(self, optimizer: Optimizer) -> AbstractContextManager[Any]:
        context: AbstractContextManager[Any] = optimizer.skip_synchronize()
        return context

    def all_reduce_sum(self, numbers: Tensor) -> Tensor:
        summed: Tensor = self.hvd.allreduce(numbers, op=self.hvd.Sum, name="total")
        return summed

    def any(self, flag: bool) -> bool:
        return bool(self.hvd.allreduce(torch.tensor([float(flag)]), op=self.hvd.Sum, name="any").item())

    def broadcast(self, value: T) -> T:
        # with no name, a None from the other processes hangs
        received: T = self.hvd.broadcast_object(value, root_rank=0, name="broadcast")
        return received

    def all_gather(self, value: T) -> list[T]:
        values: list[T] = self.hvd.allgather_object(value, name="gathered")
        return values

    def leave(self) -> None:
        self.hvd.shutdown()
