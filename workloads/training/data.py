"""What is learned from: examples by number, whole in memory, read from local files."""

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from workloads.common.errors import WorkloadError
from workloads.training.config import Digits, Text


class Examples(NamedTuple):
    """Examples to be taken by number.

    A classifier's ``x`` are float32 images in [0, 1], its ``y`` classes; a language model's ``x`` is one row of bytes
    for each example and ``y`` the bytes that come next.
    """

    x: Tensor
    y: Tensor

    def __len__(self) -> int:
        return len(self.y)

    def take(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return the examples of these numbers, in their order. Bytes become whole numbers only here: an eighth."""
        x = self.x[indices]
        return (x.long() if x.dtype == torch.uint8 else x), self.y[indices].long()


def load(config: Digits | Text) -> Examples:
    """Return the examples to train on.

    Raises:
        WorkloadError: they are not there, or too few.
    """
    return _digits(config)[0] if isinstance(config, Digits) else _text(config)


def held_out(config: Digits) -> Examples:
    """Return the examples that are not trained on."""
    return _digits(config)[1]


def _digits(config: Digits) -> tuple[Examples, Examples]:
    from sklearn.datasets import load_digits

    digits = load_digits()
    x, y = torch.tensor(digits.images, dtype=torch.float32) / 16, torch.tensor(digits.target)
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
    kept = round(len(y) * (1 - config.held_out))
    return Examples(x[order[:kept]], y[order[:kept]]), Examples(x[order[kept:]], y[order[kept:]])


def _text(config: Text) -> Examples:
    path, length = Path(config.path), config.sequence_length
    files = sorted(path.glob(config.pattern)) if path.is_dir() else [path]
    try:
        text = b"\n".join(file.read_bytes() for file in files)[: config.bytes_at_most]
    except OSError as error:
        want = "text to learn from is on every host that trains"
        raise WorkloadError("data.path", f"got {error.filename}: {error.strerror}", want, "Put it there") from error
    if len(text) <= length:
        got = f"got {len(text)} bytes of {len(files)} files like {path / config.pattern if path.is_dir() else path}"
        want = f"one example takes {length + 1}"
        raise WorkloadError("data.path", got, want, "Name other files, or a shorter sequence_length")
    rows = (len(text) - 1) // length
    numbers = torch.frombuffer(bytearray(text), dtype=torch.uint8)
    return Examples(numbers[: rows * length].view(rows, length), numbers[1 : rows * length + 1].view(rows, length))
