"""Workers of torchrun that share one copy of the model, by PyTorch's fully sharded data parallelism."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.optim import Optimizer

from workloads.training.device import Device
from workloads.training.models import blocks, materialize
from workloads.training.precision import Precision
from workloads.training.workers.torchrun import Torchrun


class ShardedTorchrun(Torchrun):
    """One process per device, each with its part of weights, gradients and moments.

    The processes gather a block's weights before it computes, and free them after.
    """

    sharded = True

    def place(self, model: nn.Module, device: Device, precision: Precision) -> nn.Module:
        mesh = init_device_mesh(device.torch.type, (self.size,))
        policy = MixedPrecisionPolicy(param_dtype=precision.dtype, reduce_dtype=torch.float32)
        for block in blocks(model):
            fully_shard(block, mesh=mesh, mp_policy=policy)
        return materialize(fully_shard(model, mesh=mesh, mp_policy=policy), device.torch)

    def broadcast_state(self, model: nn.Module, optimizer: Optimizer) -> None:
        pass  # all parts come from one seed, or each process has read its part from a file

    def average_gradients(self, model: nn.Module, optimizer: Optimizer) -> tuple[nn.Module, Optimizer]:
        return model, optimizer

    def accumulation_context(self, model: nn.Module, last: bool) -> AbstractContextManager[Any]:
        model.set_requires_gradient_sync(last)
        return nullcontext()
