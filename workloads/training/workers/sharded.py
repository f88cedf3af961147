"""Processes of torchrun that share one copy of the model: PyTorch's fully sharded data parallelism."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.optim import Optimizer

from workloads.training.device import Device
from workloads.training.models import blocks
from workloads.training.workers.torchrun import Torchrun


class Sharded(Torchrun):
    """One process per device, each with its part of weights, gradients and moments.

    A block's weights are brought together when it computes, and given up when it has.
    """

    sharded = True

    def place(self, model: nn.Module, device: Device) -> nn.Module:
        mesh = init_device_mesh(device.torch.type, (self.size,))
        for block in blocks(model):
            fully_shard(block, mesh=mesh)
        return fully_shard(model, mesh=mesh)

    def share(self, model: nn.Module, optimizer: Optimizer) -> None:
        pass  # one seed has made all parts, or each has been read from its file

    def average(self, model: nn.Module, optimizer: Optimizer) -> tuple[nn.Module, Optimizer]:
        return model, optimizer

    def accumulating(self, model: nn.Module, last: bool) -> AbstractContextManager[Any]:
        model.set_requires_gradient_sync(last)
        return nullcontext()
