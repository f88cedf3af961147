"""Workers of torchrun that share copies of the model, by PyTorch's fully sharded data parallelism."""

import warnings
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.optim import Optimizer

from workloads.training import four_bit, parallel
from workloads.training.config import TrainingConfig
from workloads.training.device import Device
from workloads.training.models import (
    blocks,
    frozen_embedding,
    frozen_outside_blocks,
    materialize,
    trainable_state,
)  # fmt: skip
from workloads.training.precision import Precision
from workloads.training.sharded import local_part
from workloads.training.workers.torchrun import Torchrun

REPLICATE, SHARD, TENSOR = "replicate", "shard", "tensor"
"""Axes of the mesh: across copies of the model, across the parts of FSDP, and across those of tensor parallelism."""
DATA = "data"
"""Axis across batches, in the place of the first two."""
EXPERT_SHARD, EXPERT = "expert_shard", "expert"
"""Axes of the mesh of experts, in the place of the last two: the parts of FSDP, and those of expert parallelism."""


class ShardedTorchrun(Torchrun):
    """One process per device, each with its part of weights, gradients and moments.

    The processes gather a block's weights before it computes, and free them after. With sharding full all processes
    share one copy. With sharding hybrid each host has a copy, which its processes share: weights are gathered within
    hosts, and gradients are averaged across hosts. Frozen weights outside the blocks have the
    format in which they are gathered, and a frozen embedding is freed before the first block.
    """

    sharded = True

    def __init__(self, config: TrainingConfig, device: Device) -> None:
        super().__init__(config, device)
        tensor, expert, kind = config.tensor_parallel, config.expert_parallel, device.torch.type
        self.shards = self.local_size if config.sharding == "hybrid" else self.size
        self.shard = self.rank % self.shards  # torchrun numbers the processes host by host
        self.data_rank, self.data_size = self.rank // tensor, self.size // tensor
        copies = self.size // self.shards
        names = (REPLICATE, SHARD, TENSOR)
        self._mesh = init_device_mesh(kind, (copies, self.shards // tensor, tensor), mesh_dim_names=names)
        names = (REPLICATE, EXPERT_SHARD, EXPERT)
        experts = (copies, self.shards // expert, expert)
        self._expert_mesh = init_device_mesh(kind, experts, mesh_dim_names=names) if expert > 1 else None
        batches = (self.data_size, tensor)
        data = init_device_mesh(kind, batches, mesh_dim_names=(DATA, TENSOR)) if tensor > 1 else None
        self._data_group = data[DATA].get_group() if data else None

    def place(self, model: nn.Module, device: Device, precision: Precision) -> nn.Module:
        policy = MixedPrecisionPolicy(param_dtype=precision.dtype, reduce_dtype=torch.float32)
        if self._config.tensor_parallel > 1 or self._expert_mesh:
            experts = parallel.divide(
                self._config, model, self._mesh[TENSOR], self._expert_mesh and self._expert_mesh[EXPERT]
            )
            # transformers takes a view of their output, and never changes it in place
            warnings.filterwarnings("ignore", r"FSDP2-wrapped module \(\w+\) returned a view tensor")
            for module in experts:
                self._shard_experts(module, policy)
        for layer in four_bit.layers(model).values():  # FSDP divides parameters alone
            layer.divide(self._mesh[SHARD].get_group())
        mesh = self._mesh[self._axes(SHARD)]
        for weight in frozen_outside_blocks(model):
            weight.data = weight.data.to(precision.dtype)
        embedding = frozen_embedding(model)
        for module in (*blocks(model), *([embedding] if embedding else [])):
            fully_shard(module, mesh=mesh, mp_policy=policy)
        return materialize(fully_shard(model, mesh=mesh, mp_policy=policy), device.torch)

    def _axes(self, shard: str) -> str | tuple[str, str]:
        """Return the axes of FSDP: that of parts, and that of copies if there are several."""
        return (REPLICATE, shard) if self.shards < self.size else shard

    def _shard_experts(self, module: nn.Module, policy: MixedPrecisionPolicy) -> None:
        """Divide the experts of *module*, which get the tokens of several batches, among the processes with the same.

        Their gradients are sums over all batches already, so FSDP adds them instead of taking the mean.
        """
        assert self._expert_mesh is not None
        experts: Any = fully_shard(module, mesh=self._expert_mesh[self._axes(EXPERT_SHARD)], mp_policy=policy)
        experts.set_gradient_divide_factor(float(self.data_size))
        if self.shards > self._config.expert_parallel:
            # Gloo has no scaled sums, and NCCL loses those in bf16 up to PyTorch 2.13 (pytorch/pytorch#190747)
            experts.set_force_sum_reduction_for_comms(True)

    def broadcast_state(self, model: nn.Module, optimizer: Optimizer) -> None:
        """Broadcast each part of the first copy to the other copies, which have read no checkpoint."""
        if self.shards == self.size:
            return  # all parts come from one seed, or each process has read its part from a file
        moments = (value for state in optimizer.state.values() for value in state.values())
        for tensor in (*trainable_state(model).values(), *moments):
            if isinstance(tensor, Tensor):
                with torch.no_grad():
                    dist.broadcast(local_part(tensor), src=self.shard, group=self._mesh.get_group(REPLICATE))

    def all_reduce_sum(self, numbers: Tensor) -> Tensor:
        dist.all_reduce(numbers, group=self._data_group)
        return numbers

    def average_gradients(self, model: nn.Module, optimizer: Optimizer) -> tuple[nn.Module, Optimizer]:
        return model, optimizer

    def accumulation_context(self, model: nn.Module, last: bool) -> AbstractContextManager[Any]:
        model.set_requires_gradient_sync(last)
        return nullcontext()
