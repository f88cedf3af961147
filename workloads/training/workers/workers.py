"""The interface of the training loop to its process group, and the implementation for one process."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol, TypeVar

from torch import Tensor, nn
from torch.optim import Optimizer

from workloads.training.device import Device
from workloads.training.models import materialize
from workloads.training.precision import Precision

T = TypeVar("T")


class Workers(Protocol):
    """A group of processes with the same model. All processes call each method, in the same order."""

    launcher: str
    """Launcher of the group: none, horovod or torchrun."""
    sharded: bool
    """Whether each process has a part of the model instead of a whole copy."""
    shards: int
    """Number of processes that share one copy of the model; 1 without sharding. The first of them save checkpoints."""
    shard: int
    """Number of this process among those that share its copy."""

    @property
    def rank(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def local_rank(self) -> int:
        """Number of this process among the processes of its host."""
        ...

    @property
    def local_size(self) -> int: ...
    @property
    def data_rank(self) -> int:
        """Number of the batch of this process among those of a step; processes of tensor parallelism share one."""
        ...

    @property
    def data_size(self) -> int:
        """Number of batches that processes compute at once: the size of data parallelism."""
        ...

    def place(self, model: nn.Module, device: Device, precision: Precision) -> nn.Module:
        """Return *model*, which has no memory, with memory on the device of this process."""
        ...

    def broadcast_state(self, model: nn.Module, optimizer: Optimizer) -> None:
        """Broadcast the trained weights and the optimizer's state of rank 0 to all processes."""

    def average_gradients(self, model: nn.Module, optimizer: Optimizer) -> tuple[nn.Module, Optimizer]:
        """Return the model to call and the optimizer to step, so that gradients are averaged over all processes."""
        ...

    def accumulation_context(self, model: nn.Module, last: bool) -> AbstractContextManager[Any]:
        """Return the context of a forward and backward pass; the last pass of a step sends the gradients."""
        ...

    def wait_for_gradients(self, optimizer: Optimizer) -> None:
        """Wait until this process has the gradients of all processes."""

    def step_context(self, optimizer: Optimizer) -> AbstractContextManager[Any]:
        """Return the context of the optimizer step, which follows `wait_for_gradients`."""
        ...

    def all_reduce_sum(self, numbers: Tensor) -> Tensor:
        """Return the sum of the *numbers* over the batches of all processes."""
        ...

    def any(self, flag: bool) -> bool:
        """Return whether *flag* is set in any process, without waiting for a GPU."""
        ...

    def broadcast(self, value: T) -> T:
        """Return the *value* of rank 0."""
        ...

    def all_gather(self, value: T) -> list[T]:
        """Return the *value* of each process, ordered by rank."""
        ...

    def leave(self) -> None: ...


class Alone:
    """A group of one process, without communication."""

    launcher, sharded, shards, shard = "none", False, 1, 0
    rank, size, local_rank, local_size, data_rank, data_size = 0, 1, 0, 1, 0, 1

    def place(self, model: nn.Module, device: Device, precision: Precision) -> nn.Module:
        return materialize(model, device.torch)

    def broadcast_state(self, model: nn.Module, optimizer: Optimizer) -> None:
        pass

    def average_gradients(self, model: nn.Module, optimizer: Optimizer) -> tuple[nn.Module, Optimizer]:
        return model, optimizer

    def accumulation_context(self, model: nn.Module, last: bool) -> AbstractContextManager[Any]:
        return nullcontext()

    def wait_for_gradients(self, optimizer: Optimizer) -> None:
        pass

    def step_context(self, optimizer: Optimizer) -> AbstractContextManager[Any]:
        return nullcontext()

    def all_reduce_sum(self, numbers: Tensor) -> Tensor:
        return numbers

    def any(self, flag: bool) -> bool:
        return flag

    def broadcast(self, value: T) -> T:
        return value

    def all_gather(self, value: T) -> list[T]:
        return [value]

    def leave(self) -> None:
        pass
