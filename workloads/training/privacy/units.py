"""The owners of the promise: the examples of each record or person, and keyed digests of the rows."""

import hashlib
import hmac
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from workloads.errors import Diagnostic, UserError
from workloads.privacy_settings import Privacy
from workloads.training.data import Examples
from workloads.training.privacy import noise
from workloads.training.privacy.ledger import DIGEST_BYTES, RowDigests
from workloads.training.records import MESSAGE_KEYS, RecordDigests, describe_keys


class Units:
    """The examples of each record or person, of which a step takes a Poisson sample."""

    def __init__(self, examples: Examples, privacy: Privacy) -> None:
        """
        Raises:
            UserError: The rows name no persons, or messages have keys that no chat template reads.
        """
        _check_keys(examples)
        owners = examples.persons if privacy.unit == "person" else examples.records
        if owners is None and privacy.unit == "person":
            problem, expected = "the rows name no persons", "the array group, or the key person in each row"
            raise UserError(Diagnostic("privacy.unit", problem, expected, "Add it, or write unit: record"))
        numbers = _records(examples, owners) if privacy.unit == "record" else owners
        assert numbers is not None
        self._examples_of = [*_groups(numbers)]
        self._most = privacy.rows_per_person if privacy.unit == "person" else None

    def __len__(self) -> int:
        return len(self._examples_of)

    def add(self, first: int, count: int) -> None:
        """Add *count* units of one example each, the first of which is example number *first*."""
        self._examples_of += [torch.tensor([first + n]) for n in range(count)]

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


def _records(examples: Examples, owners: Tensor | None) -> Tensor:
    """Return the number of the record of each example; one clip holds for all records that are the same.

    Records with the same content or the same tokens are one, whose examples may be several.
    """
    above: dict[bytes, bytes] = {}

    def first_of(digest: bytes) -> bytes:
        while (upper := above.setdefault(digest, digest)) != digest:
            above[digest] = above[upper]  # halves the way of the next call
            digest = upper
        return digest

    known = sources(examples)
    for each in known:
        above[first_of(each.tokens)] = first_of(each.content)
    first: dict[bytes, int] = {}
    numbers = range(len(examples)) if owners is None else owners.tolist()
    return torch.tensor([first.setdefault(first_of(each.content), n) for each, n in zip(known, numbers, strict=True)])


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


def digests(examples: Examples, key: bytes, unit: str = "record") -> RowDigests:
    """Return the keyed digests of the record of each example, and with unit person those of its person.

    Digests do not depend on other records, and those of contents not on a tokenizer.
    """
    known = sources(examples)
    rows = [_digest(each.content, key) for each in known]
    tokens = [_digest(b"tokens\0" + each.tokens, key) for each in known if examples.sources]
    if unit != "person" or examples.persons is None:
        return RowDigests(frozenset(rows), frozenset(tokens), frozenset())
    names = [_digest(b"person\0" + each.encode(), key) for each in examples.names]
    persons = [names[number] for number in examples.persons.tolist()]
    pairs = {row + person for each in (rows, tokens) if each for row, person in zip(each, persons, strict=True)}
    return RowDigests(frozenset(rows), frozenset(tokens), frozenset(pairs))


def fingerprint(examples: Examples, owners: int) -> str:
    """Return the digest of all examples in their order, their records and persons, and the number of *owners*."""
    digest = hashlib.sha256(f"{owners} {examples.digest()}\n".encode())
    for each in sources(examples):
        digest.update(each.content + each.tokens)
    for numbers in (examples.records, examples.persons):
        digest.update(b"none" if numbers is None else numbers.long().contiguous().numpy().tobytes())
    digest.update("\0".join(examples.names).encode())
    return digest.hexdigest()


def sources(examples: Examples) -> Sequence[RecordDigests]:
    """Return the digests of the record of each example; an image is known by its content alone."""
    if examples.sources:
        return examples.sources
    x = examples.x + 0.0 if examples.x.is_floating_point() else examples.x  # -0.0 is the same number as 0.0
    contents = (
        hashlib.sha256(b"".join(each.contiguous().numpy().tobytes() for each in pair)).digest()
        for pair in zip(x, examples.y, strict=True)
    )
    return [RecordDigests(each, each) for each in contents]


def _check_keys(examples: Examples) -> None:
    """
    Raises:
        UserError: Messages have keys that no chat template reads, by which the same tokens would look like other rows.
    """
    if examples.unread:
        problem = f"messages have keys that no chat template reads: {describe_keys(examples.unread)}"
        expected = f"messages of {', '.join(sorted(MESSAGE_KEYS))}"
        raise UserError(Diagnostic("data.path", problem, expected, "Remove these keys from the messages"))


def _digest(content: bytes, key: bytes) -> bytes:
    return hmac.new(key, content, hashlib.sha256).digest()[:DIGEST_BYTES]
