"""Units: repeated records are one, records are known before any tokenizer, and all processes have the same."""

from pathlib import Path
from typing import Any, TypeVar

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
from workloads.training.privacy.charges import Total
from workloads.training.privacy.ledger import Ledger
from workloads.training.privacy.units import Units, digests, fingerprint
from workloads.training.records import RecordDigests
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
        assert digests(one, b"k", unit) == digests(long, b"k", unit) != digests(one, b"other", unit)
        assert digests(one, b"k", unit).rows == digests(other, b"k", unit).rows
        assert not digests(one, b"k", unit).tokens & digests(other, b"k", unit).tokens
    assert len(digests(one, b"k").rows) == len(digests(one, b"k").tokens) == 9
    pairs, others = (digests(each, b"k", "person").pairs for each in (one, other))
    assert len(pairs) == 18 and len(pairs & others) == 9


def test_a_conversation_that_is_repeated_is_one_unit(tmp_path: Path) -> None:
    assert len(Units(talk(tmp_path, PLAIN), PROMISE)) == len(Units(talk(tmp_path, PLAIN, repeats=3), PROMISE)) == 9


def written(folder: Path, rows: list[dict[str, Any]], template: str = PLAIN) -> Examples:
    folder.mkdir()
    bytes_tokenizer(template).save_pretrained(folder / "model")
    path, tokenizer = write_rows(folder / "rows.jsonl", rows), str(folder / "model")
    kind = Preferences if "chosen" in rows[0] else Conversations
    options = {} if kind is Preferences else {"packed": False}
    return data.load(kind(path=path, tokenizer=tokenizer, sequence_length=160, held_out=0.0, **options))


def call(arguments: object, **more: object) -> list[dict[str, Any]]:
    return [{"type": "function", "function": {"name": "f", "arguments": arguments}, **more}]


CALLING = PLAIN.replace("{{ m.content }}", "{{ m.content }}{% if m.tool_calls %}{{ m.tool_calls | tojson }}{% endif %}")
SPELLINGS: dict[str, list[tuple[dict[str, Any], dict[str, Any]]]] = {
    "keys that no template reads": [({}, {"n": 1}), ({"n": 2}, {"tool_calls": []}), ({}, {"name": "x"})],
    "numbers of calls": [({}, {"tool_calls": call({"a": 1}, id=each)}) for each in "xyz"],
    "arguments": [({}, {"tool_calls": call(each)}) for each in ({"a": 1, "b": 2}, '{"b": 2, "a":1}')],
    "parts of a text": [({"content": each}, {}) for each in ("ab", [{"type": "text", "text": "ab"}], " ab\n")],
    "fields of a thought": [({}, {each: "so"}) for each in ("reasoning_content", "thinking")],
}


@pytest.mark.parametrize("spellings", SPELLINGS.values(), ids=SPELLINGS)
@pytest.mark.parametrize("kind", ["conversation", "preference"])
def test_another_spelling_of_a_record_is_the_same_record(kind: str, spellings: list[Any], tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = []
    for question, answer in spellings:
        first, last = {"role": "user", "content": "a", **question}, {"role": "assistant", "content": "b", **answer}
        if kind == "preference":
            rows.append({"prompt": [first], "chosen": [last], "rejected": [{"role": "assistant", "content": "no"}]})
        else:
            rows.append({"messages": [first, last]})
    found = written(tmp_path / "a", rows, CALLING)
    assert len(found) == len(spellings)
    known = Examples(found.x, found.y, sources=found.sources)  # as if all of its keys were known
    assert len({*digests(known, b"k").rows}) == len(Units(known, PROMISE)) == 1


def test_a_private_run_refuses_keys_that_no_template_reads(tmp_path: Path) -> None:
    part = {"type": "text", "text": "a", "id": 7}  # a part of a content is its text alone
    question = {"role": "user", "content": [part], "n": 3, "empty": None}
    answer = {"role": "assistant", "content": "b", "tool_calls": call({"x": 1}, index=0)}
    found = written(tmp_path / "a", [{"messages": [question, answer], "row": 1}], CALLING)
    with pytest.raises(UserError, match="no chat template reads: n, tool_calls.index;"):
        Units(found, PROMISE)


LOWER = PLAIN.replace("{{ m.content }}", "{{ m.content | lower }}")


def test_rows_with_the_same_tokens_are_one_record_of_one_data_set_and_person(tmp_path: Path) -> None:
    assert LOWER != PLAIN

    def rows(*texts: str, person: str = "p") -> list[dict[str, Any]]:
        answer = {"role": "assistant", "content": "b"}
        return [{"messages": [{"role": "user", "content": each}, answer], "person": person} for each in texts]

    one = written(tmp_path / "a", rows("ill", "well"), LOWER)
    again = written(tmp_path / "b", rows("Ill", "iLl", "ILL", "sad"), LOWER)
    assert len(Units(one, PROMISE)) == len(Units(again, PROMISE)) == 2
    ledger = tmp_path / "ledger"
    Ledger(ledger, "visits").begin(Total(1.0, 1e-5, "person"), lambda key: digests(one, key, "person"))
    with pytest.raises(UserError, match="1 of 4 rows belong to data set visits"):
        Ledger(ledger, "renamed").begin(Total(1.0, 1e-5, "person"), lambda key: digests(again, key, "person"))
    moved = written(tmp_path / "c", rows("iLL", person="q"), LOWER)
    with pytest.raises(UserError, match="1 of 3 rows have another person than before"):
        Ledger(ledger, "visits").begin(Total(1.0, 1e-5, "person"), lambda key: digests(moved, key, "person"))
    (ledger / "visits.tokens").unlink()
    with pytest.raises(UserError, match="the digests of the tokens of its rows are missing"):
        Ledger(ledger, "visits").begin(Total(1.0, 1e-5, "person"), lambda key: digests(one, key, "person"))


def test_records_that_share_content_with_one_and_tokens_with_another_are_one() -> None:
    own = images([1, 2, 3, 4])
    pairs = ((b"a", b"1"), (b"b", b"2"), (b"a", b"2"), (b"c", b"3"))
    found = Examples(own.x, own.y, sources=tuple(RecordDigests(*each) for each in pairs))
    assert len(Units(found, PROMISE)) == 2


def test_a_negative_zero_is_no_other_image() -> None:
    x = torch.tensor([0.0, -0.0, 1.0]).reshape(-1, 1, 1).expand(-1, 2, 2)
    found = Examples(x, torch.tensor([3, 3, 3]))
    assert len(Units(found, PROMISE)) == len(digests(found, b"k").rows) == 2


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
