"""Workers of torchrun that share one copy of the model, by PyTorch's fully sharded data parallelism."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.optim import Optimizer

from workloads.training.device import Device
from workloads.training.models import blocks
from workloads.training.workers.torchrun import Torchrun


class ShardedTorchrun(Torchrun):
    """One process per device, each with its part of weights, gradients and moments.

    The processes gather a block's weights before it computes, and free them after.
    """

    sharded = True

    def place(self, model: nn.Module, device: Device) -> nn.Module:
        mesh = init_device_mesh(device.torch.type, (self.size,))
        for block in blocks(model):
            fully_shard(block, mesh=mesh)
        return fully_shard(model, mesh=mesh)

    def broadcast_state(self, model: nn.Module, optimizer: Optimizer) -> None:
        pass  # all parts come from one seed, or each process has read its part from a file

    def average_gradients(self, model: nn.Module, optimizer: Optimizer) -> tuple[nn.Module, Optimizer]:
        return model, optimizer

    def accumulation_context(self, model: nn.Module, last: bool) -> AbstractContextManager[Any]:
        model.set_requires_gradient_sync(last)
        return nullcontext()
