"""Sharded states: extracted from PyTorch's distributed tensors, copied back into them, and merged.

A process holds a part of a distributed tensor: ranges of indices in each dimension. FSDP divides the rows of a tensor.
Tensor parallelism divides rows or columns before it, and expert parallelism whole experts. Parts may be empty.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, pairwise, product
from typing import Any

import torch
from torch import Tensor

from workloads.checkpoint import Checkpoint, load

Held = Sequence[Sequence[Sequence[int]]]
"""The part of a tensor that a process holds: for each dimension the ranges ``[start, stop]`` in their order there."""


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


def copy_parts(own: Mapping[str, Tensor], whole: Mapping[str, Tensor]) -> None:
    """Copy this process's part of each tensor of *whole* into the tensor of the same name in *own*."""
    with torch.no_grad():
        for name, tensor in own.items():
            local = local_part(tensor)
            local.copy_(whole[name] if local is tensor else take(whole[name], held_ranges(tensor)))


def distributed_parts(state: Mapping[str, Any]) -> dict[str, Held]:
    """Return the part that this process holds of each distributed tensor of *state*, by name."""
    return {name: held_ranges(value) for name, value in state.items() if local_part(value) is not value}


def held_ranges(tensor: Any) -> Held:
    """Return the part of the distributed *tensor* that this process holds, without communication."""
    return [_held_indices(tensor, dimension) for dimension in range(tensor.dim())]


def _held_indices(tensor: Any, dimension: int) -> Sequence[Sequence[int]]:
    """Return the ranges of indices in *dimension*, by dividing the indices as PyTorch divides the tensor."""
    from torch.distributed.tensor import Replicate, distribute_tensor

    placements = [
        _first_dimension(place) if getattr(place, "dim", None) == dimension else Replicate()
        for place in tensor.placements
    ]
    indices = torch.arange(tensor.shape[dimension])
    return _to_ranges(distribute_tensor(indices, tensor.device_mesh, placements, src_data_rank=None).to_local())


def _first_dimension(place: Any) -> Any:
    """Return the placement *place* for the first dimension: one with a factor divides each of that many groups."""
    factor = getattr(place, "split_factor", None)
    return type(place)(0) if factor is None else type(place)(0, split_factor=factor)


def _to_ranges(indices: Tensor) -> list[list[int]]:
    """Return the ranges of consecutive *indices*."""
    cuts = ((indices.diff() != 1).nonzero().flatten() + 1).tolist()
    bounds = [*pairwise([0, *cuts, len(indices)])] if len(indices) else []
    return [[int(indices[start]), int(indices[stop - 1]) + 1] for start, stop in bounds]


def rows(shape: Sequence[int], rank: int, world: int) -> Held:
    """Return the part of process *rank* of *world* of a tensor of *shape*, whose rows FSDP divides."""
    size = -(-shape[0] // world)
    own = [[min(shape[0], rank * size), min(shape[0], (rank + 1) * size)]]
    return [own, *([[0, length]] for length in shape[1:])]


def take(whole: Tensor, held: Held) -> Tensor:
    """Return the part *held* of the tensor *whole*; a view if it is one range in each dimension."""
    pieces = [*_pieces(held)]
    if len(pieces) == 1:
        return whole[pieces[0][0]]
    part = whole.new_empty([sum(stop - start for start, stop in ranges) for ranges in held])
    for in_whole, in_part in pieces:
        part[in_part] = whole[in_whole]
    return part


def merge(parts: Sequence[Tensor], held: Sequence[Held]) -> Tensor:
    """Return the whole tensor of *parts*, which are the ranges *held* of it."""
    dimensions = range(parts[0].dim())
    lengths = [max((stop for each in held for _, stop in each[dimension]), default=0) for dimension in dimensions]
    whole = parts[0].new_empty(lengths)
    for part, ranges in zip(parts, held, strict=True):
        for in_whole, in_part in _pieces(ranges):
            whole[in_whole] = part[in_part]
    return whole


def _pieces(held: Held) -> Iterator[tuple[tuple[slice, ...], tuple[slice, ...]]]:
    """Yield the place of each piece of a part, in the whole tensor and in the part."""
    dimensions = []
    for ranges in held:
        starts = accumulate((stop - start for start, stop in ranges), initial=0)
        dimensions.append([(slice(*each), slice(*own)) for each, own in zip(ranges, pairwise(starts), strict=True)])
    for piece in product(*dimensions):
        yield tuple(whole for whole, _ in piece), tuple(part for _, part in piece)


def load_whole(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the saved state with the model merged from all shards; everything else is rank 0's.

    Raises:
        CheckpointDamaged: A file differs from its manifest.
    """
    world = checkpoint.manifest.world
    states = [load(checkpoint, rank, world) for rank in range(world)]
    names = states[0].get("distributed", ())
    whole = {name: _whole([state["model"][name] for state in states], name, states) for name in names}
    return {**states[0], "model": {**states[0]["model"], **whole}}


def load_part(checkpoint: Checkpoint, own: Mapping[str, Held], trained: Sequence[str]) -> dict[str, Any]:
    """Return the state in *checkpoint*, saved by any number of processes, with this process's part of it.

    Args:
        own: The parts of the weights that are distributed in this run.
        trained: Names of the trained weights, in the order of the optimizer.

    Raises:
        CheckpointDamaged: A file differs from its manifest.
    """
    world = checkpoint.manifest.world
    states = [load(checkpoint, rank, world) for rank in range(world)]
    distributed = states[0].get("distributed", ())
    names = {*own, *distributed}

    def divide(values: Sequence[Any], name: str = "") -> Any:
        """Return this process's part of the values of all states at one place: a weight *name*, or its moments."""
        first = values[0]
        if isinstance(first, Mapping):
            return {key: divide([value[key] for value in values], key if key in names else name) for key in first}
        if name not in names or not isinstance(first, Tensor) or not first.dim():
            return first
        whole = _whole(values, name, states) if name in distributed else first
        return take(whole, own[name]) if name in own else whole

    moments = [state["optimizer"]["state"] for state in states]
    own_moments = {index: divide([each[index] for each in moments], trained[index]) for index in moments[0]}
    return {
        **states[0],
        "model": divide([state["model"] for state in states]),
        "optimizer": {**states[0]["optimizer"], "state": own_moments},
        "tuning": divide([state.get("tuning") for state in states]),
    }


def _whole(parts: Sequence[Tensor], name: str, states: Sequence[Mapping[str, Any]]) -> Tensor:
    """Return the whole of the weight *name*, or of one of its moments, whose parts the *states* have."""
    if "held" not in states[0]:  # written before parallel layers, when all parts were rows
        return torch.cat([*parts])
    return merge(parts, [state["held"][name] for state in states])
