"""The ledger keeps every charge, and knows rows whatever file and whatever name they come with."""

import fcntl
import json
from collections.abc import Sequence
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch

from workloads.errors import Diagnostic, UserError
from workloads.training.data import Examples
from workloads.training.privacy.accountant import Mechanism
from workloads.training.privacy.charges import Charge, Total
from workloads.training.privacy.ledger import Ledger, new_charge
from workloads.training.privacy.units import digests

TOTAL = Total(8.0, 1e-5, "record")
MECHANISM = Mechanism(0.1, 1.5, 10)


def rows(first: int = 0, last: int = 40) -> Examples:
    x = torch.arange(first, last, dtype=torch.float32).reshape(-1, 1, 1).expand(-1, 2, 2)
    return Examples(x, torch.arange(first, last) % 10)


def take(examples: Examples, order: torch.Tensor) -> Examples:
    return Examples(examples.x[order], examples.y[order])


def opened(directory: Path, examples: Examples, name: str = "visits", total: Total = TOTAL) -> Ledger:
    ledger = Ledger(directory, name)
    ledger.begin(total, lambda key: digests(examples, key))
    return ledger


def charge(ledger: Ledger, run: str = "a") -> None:
    ledger.charge(lambda charges: new_charge(run, "digits", "f" * 64, "c" * 64, 0, MECHANISM))


def test_it_keeps_mechanisms_and_no_epsilon_of_a_run(tmp_path: Path) -> None:
    ledger = opened(tmp_path, rows())
    charge(ledger)
    [head, line] = [json.loads(each) for each in ledger.file.read_text().splitlines()]
    assert head == {"format": 1, "data": "visits", "epsilon": 8.0, "delta": 1e-5, "unit": "record"}
    assert line.keys() == {"run", "name", "identity", "code", "first", "steps", "rate", "noise", "time"}
    assert [each.mechanism for each in ledger.charges()] == [MECHANISM]


@pytest.mark.parametrize(
    ("name", "examples"),
    {
        "shuffled": take(rows(), torch.randperm(40, generator=torch.Generator().manual_seed(0))),
        "half": rows(0, 20),
        "shortened": rows(0, 39),
        "one row": rows(39, 40),
        "longer": rows(-5, 40),
    }.items(),
)
def test_the_same_rows_under_another_name_are_refused(tmp_path: Path, name: str, examples: Examples) -> None:
    charge(opened(tmp_path, rows()))
    with pytest.raises(UserError, match="rows belong to data set visits"):
        opened(tmp_path, examples, "renamed")
    assert len(opened(tmp_path, examples).charges()) == 1  # under its own name it counts to the same budget


def test_other_rows_have_a_budget_of_their_own(tmp_path: Path) -> None:
    charge(opened(tmp_path, rows()))
    assert not opened(tmp_path, rows(100, 120), "letters").charges()


def test_rows_that_are_added_belong_to_the_data_set(tmp_path: Path) -> None:
    opened(tmp_path, rows())
    assert opened(tmp_path, rows(20, 60)).rows() == 60
    with pytest.raises(UserError, match="1 of 1 rows"):
        opened(tmp_path, rows(59, 60), "letters")


PERSONS = Total(8.0, 1e-5, "person")


def of_persons(directory: Path, first: int, names: Sequence[str]) -> Ledger:
    """Return the ledger that knows the rows from *first* on, one of each of *names*."""
    known = [*dict.fromkeys(names)]
    numbers = torch.tensor([known.index(each) for each in names])
    own = rows(first, first + len(names))
    examples = Examples(own.x, own.y, persons=numbers, names=tuple(known))
    ledger = Ledger(directory, "visits")
    ledger.begin(PERSONS, lambda key: digests(examples, key, "person"))
    return ledger


def test_the_person_of_a_row_is_fixed(tmp_path: Path) -> None:
    of_persons(tmp_path, 0, "aabb")
    assert of_persons(tmp_path, 2, "bbac").rows() == 6  # further rows, in another order of persons
    with pytest.raises(UserError, match="2 of 6 rows have another person than before"):
        of_persons(tmp_path, 0, "abcb")  # persons of two rows become persons of one
    with pytest.raises(UserError, match="3 of 6 rows have another person"):
        of_persons(tmp_path, 0, "wxyb")
    assert of_persons(tmp_path, 0, "aabbac").rows() == 6


def test_a_row_of_two_persons_is_refused(tmp_path: Path) -> None:
    own = take(rows(), torch.tensor([0, 0, 1]))
    twice = Examples(own.x, own.y, persons=torch.tensor([0, 1, 1]), names=("a", "b"))
    with pytest.raises(UserError, match="1 of 2 rows have another person than before, or two persons"):
        Ledger(tmp_path, "visits").begin(PERSONS, lambda key: digests(twice, key, "person"))


def test_lost_persons_are_no_new_persons(tmp_path: Path) -> None:
    of_persons(tmp_path, 0, "aabb")
    (tmp_path / "visits.persons").unlink()
    with pytest.raises(UserError, match="the persons of its rows are missing"):
        of_persons(tmp_path, 0, "abcd")


def test_a_ledger_names_no_person(tmp_path: Path) -> None:
    of_persons(tmp_path, 0, ["Erika Mustermann", "Max Mustermann"])
    assert not any(b"Mustermann" in file.read_bytes() for file in tmp_path.iterdir())


def test_no_other_process_charges_while_one_decides(tmp_path: Path) -> None:
    def decide(charges: Sequence[Charge]) -> None:
        with (tmp_path / "lock").open("rb") as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        seen.append(len(charges))

    seen: list[int] = []
    ledger = opened(tmp_path, rows())
    charge(ledger)
    assert ledger.charge(decide) is None
    assert seen == [1]


def test_another_total_is_refused(tmp_path: Path) -> None:
    opened(tmp_path, rows())
    with pytest.raises(UserError, match="the ledger has a total of epsilon 8"):
        opened(tmp_path, rows(), total=Total(9.0, 1e-5, "record"))
    with pytest.raises(UserError, match="for each person"):
        opened(tmp_path, rows(), total=Total(8.0, 1e-5, "person"))


def test_a_line_that_a_power_cut_left_is_no_charge_and_is_removed(tmp_path: Path) -> None:
    ledger = opened(tmp_path, rows())
    charge(ledger, "a")
    with ledger.file.open("ab") as file:
        file.write(b'{"run": "b", "na')
    assert [each.run for each in ledger.charges()] == ["a"]
    charge(ledger, "c")
    assert [each.run for each in ledger.charges()] == ["a", "c"]


def test_a_damaged_line_is_no_missing_charge(tmp_path: Path) -> None:
    ledger = opened(tmp_path, rows())
    charge(ledger)
    ledger.file.write_bytes(ledger.file.read_bytes().replace(b'"steps": 10', b'"steps": '))
    with pytest.raises(UserError, match="it is damaged"):
        ledger.charges()


@pytest.mark.parametrize("lost", ["key", "visits.jsonl"])
def test_a_lost_file_does_not_begin_a_new_budget(tmp_path: Path, lost: str) -> None:
    opened(tmp_path, rows())
    (tmp_path / lost).unlink()
    with pytest.raises(UserError, match="missing"):
        opened(tmp_path, rows())


def test_a_refused_charge_is_not_written(tmp_path: Path) -> None:
    def refuse(charges: Sequence[Charge]) -> Charge:
        raise UserError(Diagnostic("budget", f"{len(charges) + 1} charges"))

    ledger = opened(tmp_path, rows())
    with pytest.raises(UserError, match="1 charges"):
        ledger.charge(refuse)
    assert not ledger.charges()


def spend(directory: Path) -> None:
    def at_most_five(charges: Sequence[Charge]) -> Charge | None:
        return new_charge("run", "digits", "f" * 64, "c" * 64, 0, MECHANISM) if len(charges) < 5 else None

    ledger = opened(directory, rows())
    while ledger.charge(at_most_five):
        pass


def test_processes_at_once_cannot_spend_the_same_budget(tmp_path: Path) -> None:
    processes = [get_context("fork").Process(target=spend, args=(tmp_path,)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert len(opened(tmp_path, rows()).charges()) == 5
