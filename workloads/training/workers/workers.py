"""What the training loop asks of the processes it is one of; and the answers where it is the only one."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol, TypeVar

from torch import Tensor, nn
from torch.optim import Optimizer

from workloads.training.device import Device

T = TypeVar("T")


class Workers(Protocol):
    """A group of processes with the same model. All of them call every method, in the same order."""

    launcher: str
    """none, horovod or torchrun."""
    sharded: bool
    """Whether each has a part of the model; else each has all of it."""

    @property
    def rank(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def local_rank(self) -> int:
        """Its number among the processes of its host."""
        ...

    @property
    def local_size(self) -> int: ...

    def place(self, model: nn.Module, device: Device) -> nn.Module:
        """Return *model*, which has its first weights on the CPU, on the device that this process trains on."""
        ...

    def share(self, model: nn.Module, optimizer: Optimizer) -> None:
        """Give everyone the trained weights and the optimizer's state of rank 0."""

    def average(self, model: nn.Module, optimizer: Optimizer) -> tuple[nn.Module, Optimizer]:
        """Return both so that gradients are averaged over all processes; the model to call, the optimizer to step."""
        ...

    def accumulating(self, model: nn.Module, last: bool) -> AbstractContextManager[Any]:
        """Return the context of a forward and backward pass: gradients go out with the last of a step."""
        ...

    def averaged(self, optimizer: Optimizer) -> None:
        """Wait until the gradients of all are here."""

    def stepping(self, optimizer: Optimizer) -> AbstractContextManager[Any]:
        """Return the context of the step that comes after `averaged`."""
        ...

    def all_reduce_sum(self, numbers: Tensor) -> Tensor:
        """Return the sum of everybody's *numbers*."""
        ...

    def broadcast(self, value: T) -> T:
        """Return rank 0's *value*."""
        ...

    def all_gather(self, value: T) -> list[T]:
        """Return everybody's *value*, by rank."""
        ...

    def leave(self) -> None: ...


class Alone:
    """One process; nothing to agree on. The same loop, without a network."""

    launcher, sharded = "none", False
    rank, size, local_rank, local_size = 0, 1, 0, 1

    def place(self, model: nn.Module, device: Device) -> nn.Module:
        return model.to(device.torch)

    def share(self, model: nn.Module, optimizer: Optimizer) -> None:
        pass

    def average(self, model: nn.Module, optimizer: Optimizer) -> tuple[nn.Module, Optimizer]:
        return model, optimizer

    def accumulating(self, model: nn.Module, last: bool) -> AbstractContextManager[Any]:
        return nullcontext()

    def averaged(self, optimizer: Optimizer) -> None:
        pass

    def stepping(self, optimizer: Optimizer) -> AbstractContextManager[Any]:
        return nullcontext()

    def all_reduce_sum(self, numbers: Tensor) -> Tensor:
        return numbers

    def broadcast(self, value: T) -> T:
        return value

    def all_gather(self, value: T) -> list[T]:
        return [value]

    def leave(self) -> None:
        pass
