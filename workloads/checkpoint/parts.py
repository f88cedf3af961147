"""The state in a shard with its tensors on the drive: each is read when it is copied, range by range."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from workloads.checkpoint import tree
from workloads.checkpoint.checkpoints import Checkpoint
from workloads.checkpoint.layout import TENSORS, VALUES, shard_name
from workloads.foreign import read_whole

READ_BYTES = 8 << 20
"""The most bytes of a tensor that are read at a time."""


class StoredTensor:
    """A tensor in a shard."""

    def __init__(self, file: Any, name: str) -> None:
        self._file, self._name = file, name
        self.shape: tuple[int, ...] = tuple(file.get_slice(name).get_shape())

    def dim(self) -> int:
        return len(self.shape)

    @property
    def dtype(self) -> Any:
        """The ``torch.dtype``."""
        where = (slice(0, 0),) * len(self.shape)
        return (self._file.get_slice(self._name)[where] if where else self._file.get_tensor(self._name)).dtype

    def read(self) -> Any:
        """Return the whole tensor, in memory of its own."""
        return self._file.get_tensor(self._name).clone()

    def pieces(self, ranges: Sequence[slice]) -> Iterator[tuple[tuple[slice, ...], Any]]:
        """Yield the part *ranges* of the tensor in pieces of some megabytes, each with its place in that part.

        A piece is a view of the file, and its memory is that of the page cache.
        """
        if not ranges:
            yield (), self._file.get_tensor(self._name)
            return
        stored, sizes = self._file.get_slice(self._name), [each.stop - each.start for each in ranges]
        row = 8  # bytes of a number at most
        for size in sizes[1:]:
            row *= size
        rows = max(1, READ_BYTES // max(1, row))
        others = tuple(slice(0, size) for size in sizes[1:])
        for start in range(0, sizes[0], rows):
            stop = min(start + rows, sizes[0])
            first = ranges[0].start
            yield (slice(start, stop), *others), stored[(slice(first + start, first + stop), *ranges[1:])]


class _Tensors:
    """The tensors of a file by name, opened with the first one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: Any = None

    def __getitem__(self, name: str) -> StoredTensor:
        if self._file is None:
            from safetensors import safe_open

            self._file = safe_open(self._path, "pt")
        return StoredTensor(self._file, name)


def open_state(checkpoint: Checkpoint, rank: int) -> dict[str, Any]:
    """Return the state that *rank* saved, with a `StoredTensor` in the place of each tensor.

    The caller has compared the files with the manifest: see `workloads.checkpoint.verify_shards`.
    """
    world = checkpoint.manifest.world
    tensors = _Tensors(checkpoint.path / shard_name(rank, world, TENSORS))
    values = read_whole(checkpoint.path / shard_name(rank, world, VALUES))
    return tree.restore_state(values, lambda: tensors)  # type: ignore[arg-type, return-value]
