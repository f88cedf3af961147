"""States of which every process holds a part: taken out of PyTorch's distributed tensors, put back, and put together.

A part is what a process has of a tensor's first dimension; small tensors may leave some processes with none of it.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from workloads.checkpoint import Checkpoint, load


def local(value: Any) -> Any:
    """Return *value*, a state, with this process's part in the place of each tensor that is distributed."""
    if isinstance(value, Mapping):
        return {name: local(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(local(item) for item in value)
    return part(value) if isinstance(value, Tensor) else value


def part(tensor: Tensor) -> Tensor:
    """Return this process's part of *tensor*; all of it where it is not distributed."""
    # by its method: the class is in a package that takes a second to import, and most runs do not shard
    own: Tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return own


def put(own: Any, saved: Any) -> None:
    """Copy the tensors of *saved* into those that *own* has in the same places."""
    if isinstance(own, Tensor):
        with torch.no_grad():
            part(own).copy_(saved)
    elif isinstance(own, Mapping):
        for name, item in own.items():
            put(item, saved[name])
    elif isinstance(own, list | tuple):
        for mine, theirs in zip(own, saved, strict=True):
            put(mine, theirs)


def distributed(state: Mapping[str, Any]) -> list[str]:
    """Return the names of the tensors of *state* that are distributed."""
    return [name for name, value in state.items() if part(value) is not value]


def whole(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the state that was saved, its model put together; of all else what rank 0 had.

    Raises:
        Damaged: a file is not as it was written.
    """
    world = checkpoint.manifest.world
    first, *others = (load(checkpoint, rank, world) for rank in range(world))
    names = first.get("distributed", [])
    parts = {name: torch.cat([state["model"][name] for state in (first, *others)]) for name in names}
    return {**first, "model": {**first["model"], **parts}}
