"""The ledger keeps every charge, and knows rows whatever file and whatever name they come with."""

import json
from collections.abc import Collection, Sequence
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch

from workloads.errors import Diagnostic, UserError
from workloads.training.data import Examples
from workloads.training.privacy.accountant import Mechanism
from workloads.training.privacy.ledger import Charge, Ledger, Total, new_charge
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


def accept(charges: Sequence[Charge]) -> None:
    pass


def charge(ledger: Ledger, run: str = "a") -> None:
    ledger.charge(new_charge(run, "digits", "f" * 64, "c" * 64, 0, MECHANISM), accept)


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


def test_rows_of_tokens_are_the_same_at_each_length() -> None:
    x, y = torch.tensor([[5, 6, 7, 0]]), torch.tensor([[6, 7, 8, -1]])
    assert digests(Examples(x, y), b"k") == digests(Examples(x[:, :3], y[:, :3]), b"k")
    assert digests(Examples(x, y), b"k") != digests(Examples(x, y), b"other")


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
    def refuse(charges: Sequence[Charge]) -> None:
        raise UserError(Diagnostic("budget", f"{len(charges)} charges"))

    ledger = opened(tmp_path, rows())
    with pytest.raises(UserError, match="1 charges"):
        ledger.charge(new_charge("a", "digits", "f" * 64, "c" * 64, 0, MECHANISM), refuse)
    assert not ledger.charges()


def spend(directory: Path) -> None:
    def at_most_five(charges: Collection[Charge]) -> None:
        if len(charges) > 5:
            raise UserError(Diagnostic("budget", "used"))

    ledger = opened(directory, rows())
    try:
        while True:
            ledger.charge(new_charge("run", "digits", "f" * 64, "c" * 64, 0, MECHANISM), at_most_five)
    except UserError:
        pass


def test_processes_at_once_cannot_spend_the_same_budget(tmp_path: Path) -> None:
    processes = [get_context("fork").Process(target=spend, args=(tmp_path,)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert len(opened(tmp_path, rows()).charges()) == 5
