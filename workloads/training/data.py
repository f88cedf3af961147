"""What is learned from: examples by number, whole in memory, read from local files."""

from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from workloads.errors import WorkloadError
from workloads.training import rows
from workloads.training.config import Data, Digits, Rows, Text


class Examples(NamedTuple):
    """Examples to be taken by number.

    A classifier's ``x`` are float32 images in [0, 1], its ``y`` classes; a language model's ``x`` is one row of bytes
    or tokens for each example and ``y`` those that come next.
    """

    x: Tensor
    y: Tensor

    def __len__(self) -> int:
        return len(self.y)

    def take(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return the examples of these numbers, in their order. Only here they become as wide as models take them."""
        x = self.x[indices]
        return (x if x.is_floating_point() else x.long()), self.y[indices].long()

    def digest(self) -> str:
        """Return the sha256 of all of them: the same examples have the same, wherever their files are."""
        digest = sha256()
        for tensor in self:
            digest.update(f"{tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(memoryview(tensor.contiguous().numpy()).cast("B"))
        return digest.hexdigest()


def load(config: Data) -> Examples:
    """Return the examples to train on.

    Raises:
        WorkloadError: they are not there, or too few.
    """
    return _parts(config)[0]


def held_out(config: Data) -> Examples:
    """Return the examples that are not trained on."""
    return _parts(config)[1]


def together(sets: Sequence[Examples]) -> Examples:
    """Return the examples of all *sets*, one set after the other."""
    return Examples(*(torch.cat(tensors) for tensors in zip(*sets, strict=True)))


def _parts(config: Data) -> tuple[Examples, Examples]:
    if isinstance(config, Rows):
        return _rows(config)
    return _digits(config) if isinstance(config, Digits) else _text(config)


def _digits(config: Digits) -> tuple[Examples, Examples]:
    from sklearn.datasets import load_digits

    digits = load_digits()
    x, y = torch.tensor(digits.images, dtype=torch.float32) / 16, torch.tensor(digits.target)
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
    kept = round(len(y) * (1 - config.held_out))
    parts = order[:kept], order[kept:]
    if config.only:  # after the split: what is held out of some digits is held out of all of them, too
        parts = tuple(part[torch.isin(y[part], torch.tensor(config.only))] for part in parts)
    return Examples(x[parts[0]], y[parts[0]]), Examples(x[parts[1]], y[parts[1]])


def _rows(config: Rows) -> tuple[Examples, Examples]:
    arrays = rows.read(Path(config.path), "data.path")
    group = arrays.pop(rows.GROUP, None)
    if wrong := list(_wrong_rows(arrays, group)):
        want = "rows have images as x, whole numbers as labels, and a group where some belong together"
        raise WorkloadError("data.path", f"got {config.path}: {'; '.join(wrong)}", want, "Mend the file")
    x, y = arrays["x"].astype(np.float32, copy=False), arrays[rows.LABELS].astype(np.int64, copy=False)
    digests = rows.digests({"x": x})
    judges = rows.places(digests, group) >= 1 - config.held_out
    learned = {digest for digest, judge in zip(digests, judges, strict=True) if not judge}
    unseen = judges & np.array([digest not in learned for digest in digests], bool)  # of two groups, perhaps
    parts = [Examples(torch.from_numpy(x[part]), torch.from_numpy(y[part])) for part in (~judges, unseen)]
    return parts[0], parts[1]


def _wrong_rows(arrays: Mapping[str, np.ndarray], group: np.ndarray | None) -> Iterator[str]:
    wanted = {"x": ("biuf", 3), rows.LABELS: ("iu", 1)}
    for name in sorted(wanted.keys() | arrays.keys()):
        if name not in wanted:
            yield f"{name} is none of them"
        elif name not in arrays:
            yield f"{name} is not there"
        elif arrays[name].dtype.kind not in wanted[name][0] or arrays[name].ndim != wanted[name][1]:
            yield f"{name} is {arrays[name].dtype} of {list(arrays[name].shape)}"
    if len({len(array) for array in (*arrays.values(), *([] if group is None else [group])) if array.ndim}) > 1:
        yield "its arrays have different numbers of rows"
    if "x" in arrays and arrays["x"].dtype.kind == "f" and not np.isfinite(arrays["x"]).all():
        yield "x has values that are no numbers"


def _text(config: Text) -> tuple[Examples, Examples]:
    path, length = Path(config.path), config.sequence_length
    files = sorted(path.glob(config.pattern)) if path.is_dir() else [path]
    try:
        text = b"\n".join(file.read_bytes() for file in files)[: config.bytes_at_most]
    except OSError as error:
        want = "text to learn from is on every host that trains"
        raise WorkloadError("data.path", f"got {error.filename}: {error.strerror}", want, "Put it there") from error
    numbers = (
        _tokens(text, config.tokenizer) if config.tokenizer else torch.frombuffer(bytearray(text), dtype=torch.uint8)
    )
    if len(numbers) <= length:
        kind = "tokens" if config.tokenizer else "bytes"
        got = f"got {len(numbers)} {kind} of {len(files)} files like {path / config.pattern if path.is_dir() else path}"
        want = f"one example takes {length + 1}"
        raise WorkloadError("data.path", got, want, "Name other files, or a shorter sequence_length")
    rows = (len(numbers) - 1) // length
    x, y = numbers[: rows * length].view(rows, length), numbers[1 : rows * length + 1].view(rows, length)
    kept = round(rows * (1 - config.held_out))
    return Examples(x[:kept], y[:kept]), Examples(x[kept:], y[kept:])


def _tokens(text: bytes, directory: str) -> Tensor:
    """Return *text* in the tokens of the model in *directory*, int32."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
    except (OSError, ValueError) as error:
        got, fix = f"got {str(error).splitlines()[0]}", "Name a directory as save_pretrained writes it"
        raise WorkloadError("data.tokenizer", got, f"{directory} has a tokenizer", fix) from error
    return torch.tensor(tokenizer(text.decode(errors="replace"))["input_ids"], dtype=torch.int32)
