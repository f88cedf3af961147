"""The owners of the promise: the examples of each record or person, and keyed digests of the rows."""

import hashlib
import hmac
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from workloads.errors import Diagnostic, UserError
from workloads.privacy_settings import Privacy
from workloads.training.data import Examples
from workloads.training.privacy import noise
from workloads.training.privacy.ledger import DIGEST_BYTES


class Units:
    """The examples of each record or person, of which a step takes a Poisson sample."""

    def __init__(self, examples: Examples, privacy: Privacy) -> None:
        """
        Raises:
            UserError: The rows name no persons.
        """
        owners = examples.persons if privacy.unit == "person" else examples.records
        if owners is None and privacy.unit == "person":
            problem, expected = "the rows name no persons", "the array group, or the key person in each row"
            raise UserError(Diagnostic("privacy.unit", problem, expected, "Add it, or write unit: record"))
        numbers = torch.arange(len(examples)) if owners is None else owners
        self._examples_of = [*_groups(numbers)]
        self._most = privacy.rows_per_person if privacy.unit == "person" else None

    def __len__(self) -> int:
        return len(self._examples_of)

    def sample(self, rate: float, rank: int, world: int) -> list[Tensor]:
        """Return the examples of each unit that a step takes in this process, whose share is every *world*-th unit.

        A person with more rows than are allowed gets a random part of them.
        """
        own = range(rank, len(self), world)
        return [self._some(self._examples_of[own[each]]) for each in noise.sample(len(own), rate).tolist()]

    def _some(self, examples: Tensor) -> Tensor:
        if self._most is None or len(examples) <= self._most:
            return examples
        order = torch.from_numpy(np.argsort(noise.uniform(len(examples))))
        return examples[order[: self._most]]


def _groups(numbers: Tensor) -> Iterator[Tensor]:
    """Yield the positions of each number."""
    order = torch.argsort(numbers, stable=True)
    _, counts = torch.unique_consecutive(numbers[order], return_counts=True)
    yield from torch.split(order, counts.tolist())


def parts(units: list[Tensor], most: int) -> Iterator[list[Tensor]]:
    """Yield *units* in parts of at most *most* examples, or of one unit with more; no unit is divided."""
    part: list[Tensor] = []
    size = 0
    for unit in units:
        if part and size + len(unit) > most:
            yield part
            part, size = [], 0
        part.append(unit)
        size += len(unit)
    if part:
        yield part


def digests(examples: Examples, key: bytes) -> set[bytes]:
    """Return the keyed digest of each example, which depends neither on other examples nor on the length of rows."""
    return {_digest(x, y, key) for x, y in zip(examples.x, examples.y, strict=True)}


def _digest(x: Tensor, y: Tensor, key: bytes) -> bytes:
    if not x.is_floating_point():  # tokens: rows are padded to the length of the longest
        learned = (y >= 0).reshape(-1, y.shape[-1]).any(0).nonzero()
        end = int(learned.max()) + 1 if len(learned) else 0
        x, y = x[..., :end], y[..., :end]
    content = b"".join(each.contiguous().numpy().tobytes() for each in (x, y))
    return hmac.new(key, content, hashlib.sha256).digest()[:DIGEST_BYTES]
