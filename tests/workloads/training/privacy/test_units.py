"""Units: repeated records are one, records are known before any tokenizer, and all processes have the same."""

from pathlib import Path
from typing import TypeVar

import pytest
import torch

from tests.support.chat_tokenizer import PLAIN, bytes_tokenizer, write_rows
from tests.workloads.training.privacy.test_private_run import private
from workloads.errors import UserError
from workloads.privacy_settings import Budget, Privacy
from workloads.training import data
from workloads.training.config import Conversations, Preferences
from workloads.training.data import Examples
from workloads.training.privacy.budget import RunBudget
from workloads.training.privacy.units import Units, digests, fingerprint
from workloads.training.workers.workers import Alone

T = TypeVar("T")
PROMISE = Privacy(epsilon=1.0, delta=1e-5, data="d", budget=Budget(epsilon=1.0, delta=1e-5, ledger="/x"))


def images(numbers: list[int]) -> Examples:
    x = torch.tensor(numbers, dtype=torch.float32).reshape(-1, 1, 1).expand(-1, 2, 2)
    return Examples(x, torch.tensor(numbers) % 10)


def test_a_record_that_is_repeated_is_one_unit() -> None:
    units = Units(images([1, 2, 1, 3, 1, 1, 2]), PROMISE)
    assert len(units) == 3
    assert sorted(each.tolist() for each in units.sample(1.0, 0, 1)) == [[0, 2, 4, 5], [1, 6], [3]]


def talk(folder: Path, template: str, length: int = 128, repeats: int = 1) -> Examples:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}] * 2
    written = [
        {"messages": [{"role": "system", "content": f"{n}"}, *turns], "person": f"p{n}"} for n in range(9)
    ] * repeats
    bytes_tokenizer(template).save_pretrained(folder / "model")
    path = write_rows(folder / "talk.jsonl", written)
    tokenizer = str(folder / "model")
    return data.load(Conversations(path=path, tokenizer=tokenizer, sequence_length=length, held_out=0.0, packed=False))


OTHER = PLAIN.replace("{{ m.role }}|>{{ m.content }}", "{{ m.role }}|> {{ m.content }}")


def test_a_conversation_is_the_same_by_each_template_and_length(tmp_path: Path) -> None:
    one, other, long = talk(tmp_path, PLAIN), talk(tmp_path, OTHER), talk(tmp_path, PLAIN, 256)
    assert OTHER != PLAIN
    assert not torch.equal(one.x, other.x)
    for unit in ("record", "person"):
        assert digests(one, b"k", unit) == digests(other, b"k", unit) == digests(long, b"k", unit)
        assert digests(one, b"k", unit) != digests(one, b"other", unit)
    assert len(digests(one, b"k").rows) == 9
    assert len(digests(one, b"k", "person").pairs) == 9


def test_a_conversation_that_is_repeated_is_one_unit(tmp_path: Path) -> None:
    assert len(Units(talk(tmp_path, PLAIN), PROMISE)) == len(Units(talk(tmp_path, PLAIN, repeats=3), PROMISE)) == 9


def test_a_preference_is_the_same_by_each_template(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "pairs.jsonl", [{"prompt": f"{n}", "chosen": "y", "rejected": "n"} for n in range(9)])
    found = []
    for template in (PLAIN, OTHER):
        bytes_tokenizer(template).save_pretrained(tmp_path / "model")
        settings = Preferences(path=path, tokenizer=str(tmp_path / "model"), sequence_length=128, held_out=0.0)
        found.append(digests(data.load(settings), b"k").rows)
    assert len(found[0]) == 9
    assert found[0] == found[1]


class Two(Alone):
    """A process beside another one with the fingerprint *other*."""

    def __init__(self, other: str) -> None:
        self._other = other

    def all_gather(self, value: T) -> list[T]:
        return [value, self._other if isinstance(value, str) else value]  # type: ignore[list-item]


@pytest.mark.parametrize("change", ["rows", "owners", "order"])
def test_processes_with_different_rows_are_refused_before_the_first_charge(tmp_path: Path, change: str) -> None:
    own = images([*range(2000)])
    numbers = [*range(1, 2001)] if change == "rows" else [*reversed(range(2000))] if change == "order" else None
    other = fingerprint(images(numbers) if numbers else own, 1999 if change == "owners" else 2000)
    with pytest.raises(UserError, match="processes have different rows"):
        RunBudget(private(tmp_path), tmp_path, own, 2000, Two(other))
    assert not (tmp_path / "ledger").exists()
