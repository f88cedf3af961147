"""Workers of torchrun that share copies of the model, by PyTorch's fully sharded data parallelism."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.optim import Optimizer

from workloads.training.config import TrainingConfig
from workloads.training.device import Device
from workloads.training.models import blocks, materialize, trainable_state
from workloads.training.precision import Precision
from workloads.training.sharded import local_part
from workloads.training.workers.torchrun import Torchrun

REPLICATE, SHARD = "replicate", "shard"
"""Axes of the mesh: across copies of the model, and across the parts of one copy."""


class ShardedTorchrun(Torchrun):
    """One process per device, each with its part of weights, gradients and moments.

    The processes gather a block's weights before it computes, and free them after. With sharding full all processes
    share one copy. With sharding hybrid each host has a copy, which its processes share: weights are gathered within
    hosts, and gradients are averaged across hosts.
    """

    sharded = True

    def __init__(self, config: TrainingConfig, device: Device) -> None:
        super().__init__(config, device)
        self.shards = self.local_size if config.sharding == "hybrid" else self.size
        self.shard = self.rank % self.shards  # torchrun numbers the processes host by host
        shape = (self.size // self.shards, self.shards)
        self._mesh = init_device_mesh(device.torch.type, shape, mesh_dim_names=(REPLICATE, SHARD))

    def place(self, model: nn.Module, device: Device, precision: Precision) -> nn.Module:
        mesh = self._mesh if self.shards < self.size else self._mesh[SHARD]
        policy = MixedPrecisionPolicy(param_dtype=precision.dtype, reduce_dtype=torch.float32)
        for block in blocks(model):
            fully_shard(block, mesh=mesh, mp_policy=policy)
        return materialize(fully_shard(model, mesh=mesh, mp_policy=policy), device.torch)

    def broadcast_state(self, model: nn.Module, optimizer: Optimizer) -> None:
        """Broadcast each part of the first copy to the other copies, which have read no checkpoint."""
        if self.shards == self.size:
            return  # all parts come from one seed, or each process has read its part from a file
        moments = (value for state in optimizer.state.values() for value in state.values())
        for tensor in (*trainable_state(model).values(), *moments):
            if isinstance(tensor, Tensor):
                with torch.no_grad():
                    dist.broadcast(local_part(tensor), src=self.shard, group=self._mesh.get_group(REPLICATE))

    def average_gradients(self, model: nn.Module, optimizer: Optimizer) -> tuple[nn.Module, Optimizer]:
        return model, optimizer

    def accumulation_context(self, model: nn.Module, last: bool) -> AbstractContextManager[Any]:
        model.set_requires_gradient_sync(last)
        return nullcontext()
