"""Sharded states: extracted from PyTorch's distributed tensors, copied back into them, and merged.

A process holds a part of a distributed tensor: ranges of indices in each dimension. FSDP divides the rows of a tensor.
Tensor parallelism divides rows or columns before it, and expert parallelism whole experts. Parts may be empty.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise, product
from typing import Any

import torch
from torch import Tensor

from workloads.checkpoint import Checkpoint, StoredTensor, manifest, open_state, verify_shards

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


def _pieces(held: Held) -> Iterator[tuple[tuple[slice, ...], tuple[slice, ...]]]:
    """Yield the place of each piece of a part, in the whole tensor and in the part."""
    dimensions = []
    for ranges in held:
        starts = accumulate((stop - start for start, stop in ranges), initial=0)
        dimensions.append([(slice(*each), slice(*own)) for each, own in zip(ranges, pairwise(starts), strict=True)])
    for piece in product(*dimensions):
        yield tuple(whole for whole, _ in piece), tuple(part for _, part in piece)


def whole_ranges(shape: Sequence[int]) -> Held:
    """Return the part that is a whole tensor of *shape*."""
    return [[[0, length]] for length in shape]


@dataclass(frozen=True, slots=True)
class SavedTensor:
    """A tensor in a checkpoint, in as many parts as processes have saved."""

    parts: Sequence[StoredTensor]
    held: Sequence[Held]
    """The range of the whole tensor that each part is."""

    @property
    def shape(self) -> torch.Size:
        """The shape of the whole tensor."""
        dimensions = range(self.parts[0].dim())
        lengths = [max((stop for each in self.held for _, stop in each[dim]), default=0) for dim in dimensions]
        return torch.Size(lengths)

    def copy_into(self, target: Tensor, own: Held) -> None:
        """Copy the part *own* of the tensor into *target*, of whose size it is; read nothing else.

        Raises:
            CheckpointDamaged: The parts do not have all of it.
        """
        copied, seen = 0, []
        with torch.no_grad():
            for part, held in zip(self.parts, self.held, strict=True):
                if held in seen:  # processes that share a batch have the same part of some weights
                    continue
                seen.append(held)
                for in_part, in_own in _overlaps(held, own):
                    place = target[in_own]
                    for where, numbers in part.pieces(in_part):
                        place[where].copy_(numbers)
                    copied += place.numel()
        if copied != target.numel():
            raise manifest.damage_error("a weight", [f"its parts have {copied} of {target.numel()} numbers"])

    def read(self, own: Held | None = None) -> Tensor:
        """Return the part *own*, or the whole tensor."""
        if len(self.parts) == 1 and own is None:
            whole: Tensor = self.parts[0].read()
            return whole
        ranges = whole_ranges(self.shape) if own is None else own
        sizes = [sum(stop - start for start, stop in each) for each in ranges]
        target = torch.empty(sizes, dtype=self.parts[0].dtype)
        self.copy_into(target, ranges)
        return target


def _overlaps(held: Held, own: Held) -> Iterator[tuple[tuple[slice, ...], tuple[slice, ...]]]:
    """Yield the pieces that two parts of a tensor have in common, by their place in each."""
    dimensions = [[*_common(one, other)] for one, other in zip(held, own, strict=True)]
    for piece in product(*dimensions):
        yield tuple(first for first, _ in piece), tuple(second for _, second in piece)


def _common(one: Sequence[Sequence[int]], other: Sequence[Sequence[int]]) -> Iterator[tuple[slice, slice]]:
    """Yield the indices that two lists of ranges have in common, by their place in each list."""
    first = 0
    for start, stop in one:
        second = 0
        for begin, end in other:
            low, high = max(start, begin), min(stop, end)
            if low < high:
                yield (
                    slice(first + low - start, first + high - start),
                    slice(second + low - begin, second + high - begin),
                )
            second += end - begin
        first += stop - start


class SavedState:
    """The state in a checkpoint that any number of processes saved; its tensors are on the drive until they are copied.

    The caller has compared the files with the manifest.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._states = [open_state(checkpoint, rank) for rank in range(checkpoint.manifest.world)]
        self.values: Mapping[str, Any] = self._states[0]
        """The state of the first process, with a `StoredTensor` for each tensor."""
        self._distributed = frozenset(self.values.get("distributed", ()))

    def weights(self) -> dict[str, SavedTensor]:
        """Return the weights by name."""
        return {name: self._tensor(name, [state["model"][name] for state in self._states])
                for name in self.values["model"]}  # fmt: skip

    def copy_weights(self, own: Mapping[str, Tensor]) -> None:
        """Copy this process's part of each weight into *own*, which has the names of the saved weights.

        Raises:
            CheckpointDamaged: A part is missing.
        """
        for name, saved in self.weights().items():
            saved.copy_into(local_part(own[name]), _ranges(own[name]))

    def moments(self, trained: Sequence[str]) -> dict[Any, dict[str, SavedTensor]]:
        """Return the tensors of the optimizer's state, by the number of their weight.

        Args:
            trained: Names of the trained weights, in the order of the optimizer.
        """
        states = [state["optimizer"]["state"] for state in self._states]
        return {
            index: {key: self._tensor(trained[index], [state[index][key] for state in states])
                    for key, value in moments.items() if isinstance(value, StoredTensor)}
            for index, moments in states[0].items()
        }  # fmt: skip

    def copy_moments(self, own: Mapping[Any, Mapping[str, Any]], trained: Sequence[str]) -> None:
        """Copy this process's part of the optimizer's state into *own*.

        Raises:
            CheckpointDamaged: A part is missing.
        """
        for index, saved in self.moments(trained).items():
            for key, moment in saved.items():
                moment.copy_into(local_part(own[index][key]), _ranges(own[index][key]))

    def read(self, key: str, own: Mapping[str, Held] | None = None) -> Any:
        """Return the value at *key*; None if the state has none.

        Args:
            own: The parts of weights that are distributed in this run, by name. Values under the name of a weight are
                read as this process's part.
        """
        return self._read([state.get(key) for state in self._states], own or {}, "")

    def _read(self, values: Sequence[Any], own: Mapping[str, Held], name: str) -> Any:
        first = values[0]
        if isinstance(first, Mapping):
            known = self.values["model"]
            return {
                key: self._read([value[key] for value in values], own, key if key in known else name) for key in first
            }
        if isinstance(first, StoredTensor):
            return self._tensor(name, values).read(own.get(name) if first.dim() else None)
        return first

    def _tensor(self, name: str, parts: Sequence[StoredTensor]) -> SavedTensor:
        """Return the weight *name*, or one of its moments, whose parts the states have."""
        if name not in self._distributed or not parts[0].dim():
            return SavedTensor(parts[:1], [whole_ranges(parts[0].shape)])
        if "held" in self.values:
            return SavedTensor(parts, [state["held"][name] for state in self._states])
        # written before parallel layers, when all parts were rows
        starts = accumulate((part.shape[0] for part in parts), initial=0)
        held = [[[[*rows]], *whole_ranges(part.shape[1:])] for rows, part in zip(pairwise(starts), parts, strict=True)]
        return SavedTensor(parts, held)


def _ranges(tensor: Tensor) -> Held:
    """Return the part of *tensor* that this process holds: all of it, if it is not distributed."""
    return whole_ranges(tensor.shape) if local_part(tensor) is tensor else held_ranges(tensor)


def load_whole(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the saved state with the weights merged from all shards, and without what training alone needs.

    Raises:
        CheckpointDamaged: A file differs from its manifest.
    """
    verify_shards(checkpoint)
    saved = SavedState(checkpoint)
    return {key: saved.read(key) for key in saved.values if key not in ("optimizer", "held", "tuning", "references")}
