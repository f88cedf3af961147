"""Sharded states: extracted from PyTorch's distributed tensors, copied back into them, and merged.

A part is a process's range of a tensor's first dimension; it may be empty for small tensors.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from workloads.checkpoint import Checkpoint, load


def local_state(value: Any) -> Any:
    """Return the state *value* with each distributed tensor replaced by this process's part."""
    if isinstance(value, Mapping):
        return {name: local_state(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(local_state(item) for item in value)
    return local_part(value) if isinstance(value, Tensor) else value


def local_part(tensor: Tensor) -> Tensor:
    """Return this process's part of *tensor*, or the whole tensor if it is not distributed."""
    # test for the method: the class is in a package that takes a second to import, and most runs do not shard
    own: Tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return own


def copy_into(own: Any, saved: Any) -> None:
    """Copy the tensors of *saved* into the tensors at the same places in *own*."""
    if isinstance(own, Tensor):
        with torch.no_grad():
            local_part(own).copy_(saved)
    elif isinstance(own, Mapping):
        for name, item in own.items():
            copy_into(item, saved[name])
    elif isinstance(own, list | tuple):
        for own_item, saved_item in zip(own, saved, strict=True):
            copy_into(own_item, saved_item)


def distributed_names(state: Mapping[str, Any]) -> list[str]:
    """Return the names of the distributed tensors of *state*."""
    return [name for name, value in state.items() if local_part(value) is not value]


def load_whole(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the saved state with the model merged from all shards; everything else is rank 0's.

    Raises:
        CheckpointDamaged: A file differs from its manifest.
    """
    world = checkpoint.manifest.world
    first, *others = (load(checkpoint, rank, world) for rank in range(world))
    names = first.get("distributed", [])
    parts = {name: torch.cat([state["model"][name] for state in (first, *others)]) for name in names}
    return {**first, "model": {**first["model"], **parts}}
