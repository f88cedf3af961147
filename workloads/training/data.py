"""Training data: numbered examples, read from local files into memory."""

import json
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from workloads.errors import Diagnostic, UserError
from workloads.foreign import read_whole
from workloads.training import conversations, preferences, rows
from workloads.training.config import Conversations, Data, Digits, Preferences, Rows, Tasks, Text
from workloads.training.records import RecordDigests
from workloads.training.tasks import TaskSet
from workloads.training.tasks import load as load_tasks
from workloads.training.tokenizer import load_tokenizer


class Counts(NamedTuple):
    """Numbers of examples."""

    training: int
    held_out: int

    def __str__(self) -> str:
        return f"{self.training} examples to train on, {self.held_out} held out"


class Examples(NamedTuple):
    """Numbered examples.

    For a classifier, ``x`` is float32 images in [0, 1] and ``y`` their classes. For a language model, ``x`` is one row
    of bytes or tokens for each example and ``y`` the bytes or tokens that come next, or negative where nothing is
    learned. For conversations that share rows, ``x`` has two rows for each example, tokens and their positions. For
    preferences, ``x`` and ``y`` have two rows for each example, those of the chosen and of the rejected answer. For
    tasks, ``y`` has the tokens of the prompt.
    """

    x: Tensor
    y: Tensor
    reference: Tensor | None = None
    """Log-probabilities of both answers of each pair by the reference, in fp32; None if they are not known."""
    left_out: Mapping[str, int] = MappingProxyType({})
    """Number of things in the files of the whole set that nothing learns from, by the reason."""
    lengths: Mapping[str, conversations.TokenRange] = MappingProxyType({})
    """Lengths of what is left out for its length, by the reason."""
    outcomes: Tensor | None = None
    """Outcome of each answer that the model wrote to a task: a row of the module `grpo`."""
    tasks: TaskSet | None = None
    """Rules and expected answers of tasks."""
    records: Tensor | None = None
    """Number of the row of a file that each example comes from; None if each row is one example."""
    persons: Tensor | None = None
    """Number of the person that each example belongs to; None if the rows name none."""
    names: tuple[str, ...] = ()
    """Name of each person in the rows, by number."""
    sources: tuple[RecordDigests, ...] = ()
    """Digests of the record that each example comes from; empty if ``x`` is the record."""
    unread: frozenset[str] = frozenset()
    """Keys of messages that no chat template reads."""
    counts: Counts | None = None
    """Number of examples of the whole set, before several share a row; None for a part of a set."""

    def __len__(self) -> int:
        return len(self.y)

    def take(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return the examples with these numbers, in this order, converted to the types that models take.

        Pairs, and conversations in rows of their own, end where the longest answer does.
        """
        x, y = self.x[indices], self.y[indices]
        if x.dim() == y.dim() > 1 and len(indices):
            end = int((y >= 0).reshape(-1, y.shape[-1]).any(0).nonzero().max()) + 1
            x, y = x[..., :end], y[..., :end]
        return (x if x.is_floating_point() else x.long()), y.long()

    @property
    def are_pairs(self) -> bool:
        """Whether each example is a pair of answers."""
        return bool(self.y.dim() == 3)

    def digest(self) -> str:
        """Return the sha256 of all examples; it does not depend on where their files are."""
        digest = sha256()
        for tensor in (self.x, self.y):
            digest.update(f"{tensor.dtype} {tuple(tensor.shape)}\n".encode())
            if tensor.numel():  # a view of nothing cannot be cast
                digest.update(memoryview(tensor.contiguous().numpy()).cast("B"))
        if self.tasks:
            digest.update(json.dumps(self.tasks.answers).encode())
        return digest.hexdigest()


def load(config: Data) -> Examples:
    """Return the examples to train on.

    Raises:
        UserError: The files are missing, or have too few examples.
    """
    training, unseen = _parts(config)
    fields = training._asdict()  # `_replace` takes the number of examples for that of the fields
    return Examples(**{**fields, "counts": training.counts or Counts(len(training), len(unseen))})


def held_out(config: Data) -> Examples:
    """Return the examples that the run does not train on."""
    return _parts(config)[1]


def concatenate(sets: Sequence[Examples]) -> Examples:
    """Return the examples of all *sets* in one set, in order; texts beside conversations get positions."""
    if any(map(_has_positions, sets)):
        sets = [each if _has_positions(each) else _with_positions(each) for each in sets]
    return Examples(torch.cat([each.x for each in sets]), torch.cat([each.y for each in sets]))


def count_answers(y: Tensor) -> Tensor:
    """Return the number of answers that are scored: one for an image, a learned position, or a pair."""
    return torch.tensor(len(y)) if y.dim() == 3 else (y >= 0).sum()


def example_shape(examples: Examples) -> tuple[int, ...]:
    """Return the shape of an image, or the length of a text; positions beside tokens do not count."""
    return tuple(examples.x.shape[-1:] if _has_positions(examples) else examples.x.shape[1:])


def _has_positions(examples: Examples) -> bool:
    return examples.x.dim() == 3 and not examples.x.is_floating_point() and not examples.are_pairs


def _with_positions(examples: Examples) -> Examples:
    """Return texts in the form of conversations: each row is one sequence, whose positions count from 0."""
    positions = torch.arange(examples.x.shape[1], dtype=torch.int32).expand(examples.x.shape)
    return Examples(torch.stack([examples.x.int(), positions], 1), examples.y.int())


def _parts(config: Data) -> tuple[Examples, Examples]:
    if isinstance(config, Conversations):
        found = conversations.load(config)
        own = Examples(
            *found.training, left_out=found.left_out, lengths=found.lengths, records=found.records_N,
            persons=found.persons_N, names=found.names, sources=found.sources_N, unread=found.unread,
            counts=Counts(*found.counts),
        )  # fmt: skip
        return own, Examples(*found.held_out)
    if isinstance(config, Preferences):
        chosen, unseen, left_out, lengths, sources, unread = preferences.load(config)
        return Examples(*chosen, left_out=left_out, lengths=lengths, sources=sources, unread=unread), Examples(*unseen)
    if isinstance(config, Tasks):
        known, fresh, left_out, lengths = load_tasks(config)
        return Examples(*known[:2], left_out=left_out, lengths=lengths, tasks=known.tasks), Examples(
            *fresh[:2], tasks=fresh.tasks
        )
    if isinstance(config, Rows):
        return _rows(config)
    return _digits(config) if isinstance(config, Digits) else _text(config)


def _digits(config: Digits) -> tuple[Examples, Examples]:
    from sklearn.datasets import load_digits

    digits = load_digits()
    x, y = torch.tensor(digits.images, dtype=torch.float32) / 16, torch.tensor(digits.target)
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
    split = round(len(y) * (1 - config.held_out))
    parts = order[:split], order[split:]
    if config.only:  # after the split, so that an example is held out of every selection of digits or of none
        parts = tuple(part[torch.isin(y[part], torch.tensor(config.only))] for part in parts)
    return Examples(x[parts[0]], y[parts[0]]), Examples(x[parts[1]], y[parts[1]])


def _rows(config: Rows) -> tuple[Examples, Examples]:
    arrays = rows.read(Path(config.path), "data.path")
    group = arrays.pop(rows.GROUP, None)
    if problems := list(_row_problems(arrays, group)):
        problem = f"{config.path} is not a file of rows: {'; '.join(problems)}"
        expected = "images as x, whole numbers as labels, and an optional group for rows that belong together"
        raise UserError(Diagnostic("data.path", problem, expected, "Correct the file"))
    x, y = arrays["x"].astype(np.float32, copy=False), arrays[rows.LABELS].astype(np.int64, copy=False)
    digests = rows.digests({"x": x})
    held_out_mask = rows.split_points(digests, group) >= 1 - config.held_out
    training_digests = {digest for digest, is_held_out in zip(digests, held_out_mask, strict=True) if not is_held_out}
    # the same row may be in a training group and in a held-out group
    unseen_mask = held_out_mask & np.array([digest not in training_digests for digest in digests], bool)
    masks = (~held_out_mask, unseen_mask)
    repeated = int((held_out_mask & ~unseen_mask).sum())
    left_out = {"held-out rows that are training rows, too": repeated} if repeated else {}
    parts = [(torch.from_numpy(x[mask]), torch.from_numpy(y[mask])) for mask in masks]
    if group is None:
        return Examples(*parts[0], left_out=left_out), Examples(*parts[1])
    names, persons = np.unique(group[masks[0]], return_inverse=True)
    named = tuple(str(each) for each in names.tolist())
    return Examples(*parts[0], left_out=left_out, persons=torch.from_numpy(persons), names=named), Examples(*parts[1])


def _row_problems(arrays: Mapping[str, np.ndarray], group: np.ndarray | None) -> Iterator[str]:
    expected = {"x": ("biuf", 3), rows.LABELS: ("iu", 1)}
    for name in sorted(expected.keys() | arrays.keys()):
        if name not in expected:
            yield f"{name} is not one of these arrays"
        elif name not in arrays:
            yield f"{name} is missing"
        elif arrays[name].dtype.kind not in expected[name][0] or arrays[name].ndim != expected[name][1]:
            yield f"{name} is {arrays[name].dtype} with shape {list(arrays[name].shape)}"
    if len({len(array) for array in (*arrays.values(), *([] if group is None else [group])) if array.ndim}) > 1:
        yield "the arrays have different numbers of rows"
    if "x" in arrays and arrays["x"].dtype.kind == "f" and not np.isfinite(arrays["x"]).all():
        yield "x has values that are not finite numbers"


def _read_text(file: Path) -> bytes:
    content = read_whole(file)
    if conversations.has_messages(content):
        problem, help = f"{file} has rows with messages, and data.kind is text", "Set data.kind=conversations"
        raise UserError(Diagnostic("data.path", problem, "conversations as data of their kind", help))
    return content


def _text(config: Text) -> tuple[Examples, Examples]:
    path, length = Path(config.path), config.sequence_length
    files = sorted(path.glob(config.pattern)) if path.is_dir() else [path]
    try:
        whole = b"\n".join(map(_read_text, files))
    except OSError as error:
        problem, note = f"{error.filename} cannot be read: {error.strerror}", "every host of the run reads it"
        raise UserError(Diagnostic("data.path", problem, help="Copy the text to this host", note=note)) from error
    text = whole[: config.bytes_at_most]
    numbers = (
        _tokens(text, config.tokenizer) if config.tokenizer else torch.frombuffer(bytearray(text), dtype=torch.uint8)
    )
    if len(numbers) <= length:
        kind = "tokens" if config.tokenizer else "bytes"
        place = path / config.pattern if path.is_dir() else path
        problem = f"the text in {place} is too short: {len(numbers)} {kind} from {len(files)} files"
        expected = f"at least {length + 1} {kind} for one example"
        raise UserError(Diagnostic("data.path", problem, expected, "Name other files, or a shorter sequence_length"))
    rows = (len(numbers) - 1) // length
    x, y = numbers[: rows * length].view(rows, length), numbers[1 : rows * length + 1].view(rows, length)
    split = round(rows * (1 - config.held_out))
    counts = {
        "bytes beyond bytes_at_most": len(whole) - len(text),
        f"{'tokens' if config.tokenizer else 'bytes'} after the last whole example": len(numbers) - 1 - rows * length,
        "bytes that are no UTF-8": _wrong_bytes(text) if config.tokenizer else 0,
    }
    left_out = {reason: number for reason, number in counts.items() if number}
    return Examples(x[:split], y[:split], left_out=left_out), Examples(x[split:], y[split:])


def _wrong_bytes(text: bytes) -> int:
    """Return the number of bytes of *text* that are no UTF-8, each of which becomes a replacement character."""
    return len(text) - len(text.decode(errors="ignore").encode())


def _tokens(text: bytes, directory: str) -> Tensor:
    """Return *text* as int32 tokens of the model in *directory*."""
    tokenizer = load_tokenizer(directory)
    return torch.tensor(tokenizer(text.decode(errors="replace"))["input_ids"], dtype=torch.int32)
