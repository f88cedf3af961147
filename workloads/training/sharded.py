"""Sharded states: extracted from PyTorch's distributed tensors, copied back into them, and merged.

A part is a process's range of a tensor's first dimension; it may be empty for small tensors.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from workloads.checkpoint import Checkpoint, load


@dataclass(frozen=True, slots=True)
class Part:
    """The part of each distributed tensor that a process holds."""

    rank: int = 0
    world: int = 1

    def rows(self, total: int) -> slice:
        """Return the rows of a tensor with *total* rows, divided as PyTorch's `chunk` divides them."""
        size = -(-total // self.world)
        return slice(min(total, self.rank * size), min(total, (self.rank + 1) * size))


WHOLE = Part()


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


def copy_parts(own: Mapping[str, Tensor], whole: Mapping[str, Tensor], part: Part) -> None:
    """Copy this process's part of each tensor of *whole* into the tensor of the same name in *own*."""
    with torch.no_grad():
        for name, tensor in own.items():
            local = local_part(tensor)
            local.copy_(whole[name] if local is tensor else whole[name][part.rows(len(tensor))])


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


def load_part(checkpoint: Checkpoint, part: Part, names: Collection[str]) -> dict[str, Any]:
    """Return the state in *checkpoint*, saved by any number of processes, with this process's *part* of it.

    Args:
        names: Names of the weights that are distributed in this run; those of the checkpoint's run are added.

    Raises:
        CheckpointDamaged: A file differs from its manifest.
    """
    world = checkpoint.manifest.world
    states = [load(checkpoint, rank, world) for rank in range(world)]
    distributed = {*names, *states[0].get("distributed", ())}

    def divide(values: Sequence[Any], inside: bool) -> Any:
        """Return the part of the values of all states at one place; *inside* a distributed weight or its moments."""
        first = values[0]
        if isinstance(first, Mapping):
            each = {key: [value[key] for value in values] for key in first}
            return {key: divide(parts, inside or key in distributed) for key, parts in each.items()}
        return _rows_of(values, part) if inside and isinstance(first, Tensor) and first.dim() else first

    moments = divide([state["optimizer"]["state"] for state in states], inside=bool(distributed))
    return {
        **states[0],
        "model": divide([state["model"] for state in states], inside=False),
        "optimizer": {**states[0]["optimizer"], "state": moments},
        "tuning": divide([state.get("tuning") for state in states], inside=False),
    }


def _rows_of(parts: Sequence[Tensor], part: Part) -> Tensor:
    """Return the rows of *part* of the tensor whose consecutive rows are in *parts*."""
    rows, start, pieces = part.rows(sum(map(len, parts))), 0, []
    for each in parts:
        pieces.append(each[max(0, rows.start - start) : max(0, rows.stop - start)])
        start += len(each)
    return torch.cat(pieces)
