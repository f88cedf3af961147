"""A ledger, and the files of a run, have bounds: their values come from the account of the run."""

import json
from pathlib import Path
from typing import Any

import pytest

from workloads.errors import UserError
from workloads.training.privacy import accountant, report
from workloads.training.privacy.__main__ import main
from workloads.training.privacy.accountant import Mechanism
from workloads.training.privacy.charges import MECHANISMS_MAX
from workloads.training.privacy.ledger import Ledger, new_charge
from workloads.training.privacy.limits import resource_limits
from workloads.training.privacy.receipts import receipt

HEAD: dict[str, Any] = {"format": 1, "data": "d", "epsilon": 6.0, "delta": 1e-5, "unit": "record"}
CHARGE: dict[str, Any] = {
    "run": "a" * 32, "name": "n", "identity": "b" * 64, "code": "c" * 64, "first": 0, "steps": 40, "rate": 0.05,
    "noise": 1.0, "time": 0.0,
}  # fmt: skip


def write(directory: Path, head: dict[str, Any], *charges: object) -> Ledger:
    directory.mkdir(exist_ok=True)
    (directory / "d.jsonl").write_text("".join(f"{json.dumps(each)}\n" for each in (head, *charges)))
    return Ledger(directory, "d")


HEADS = [
    {"epsilon": 1e-9}, {"epsilon": "6"}, {"epsilon": 1e9}, {"epsilon": None}, {"delta": 0}, {"delta": 0.5},
    {"unit": "\x1b[2K"}, {"unit": 1}, {"more": 1}, {"format": 2}, {"data": "e"},
]  # fmt: skip
CHARGES = [
    {"noise": -1.0}, {"noise": 0}, {"noise": 1e-3}, {"noise": 1e300}, {"noise": "1"}, {"rate": 7.0}, {"rate": 1},
    {"rate": 0}, {"rate": -0.05}, {"steps": -39}, {"steps": 0}, {"steps": 10**30}, {"steps": "40"},
    {"steps": 1.5}, {"steps": True},
    {"first": -1}, {"first": "0"}, {"name": ["x"]}, {"name": "\x1b[2K"}, {"run": ["x"]}, {"run": ""},
    {"run": "x" * 999}, {"identity": 5}, {"code": "z"}, {"time": -1}, {"time": "now"}, {"more": 1},
]  # fmt: skip


@pytest.mark.parametrize("change", HEADS, ids=str)
def test_a_total_outside_its_bounds_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    other = "it belongs to another" if change.keys() & {"format", "data"} else f"{next(iter(change))}: "
    with pytest.raises(UserError, match=f"it is damaged: {other}"):
        report.ledger_data(write(tmp_path, HEAD | change, CHARGE))


@pytest.mark.parametrize("change", CHARGES, ids=str)
def test_a_charge_outside_its_bounds_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    for several in ((CHARGE | change,), (CHARGE, CHARGE | change)):
        with pytest.raises(UserError, match=f"it is damaged: {len(several) - 1}.{next(iter(change))}: ") as refused:
            report.ledger_data(write(tmp_path, HEAD, *several))
        assert "\x1b" not in str(refused.value)


def test_a_ledger_has_a_bounded_number_of_mechanisms(tmp_path: Path) -> None:
    rates = [0.05 + n * 1e-6 for n in range(MECHANISMS_MAX + 1)]
    ledger = write(tmp_path, HEAD, *(CHARGE | {"rate": each} for each in rates))
    with pytest.raises(UserError, match="101 different pairs of rate and noise"):
        report.ledger_data(ledger)
    full = write(tmp_path, HEAD, *(CHARGE | {"rate": each} for each in rates[1:]))
    with pytest.raises(UserError, match="101 different pairs"):  # no run makes a ledger unreadable
        full.charge(lambda charges: new_charge("r", "n", "b" * 64, "c" * 64, 0, Mechanism(rates[0], 1.0, 1)))
    assert len(full.charges()) == MECHANISMS_MAX
    with pytest.raises(UserError, match="the ledger takes no such charge: noise"):
        new_charge("r", "n", "b" * 64, "c" * 64, 0, Mechanism(0.1, 1e-9, 1))


def test_a_loss_without_a_bound_in_memory_is_a_refusal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, HEAD | {"epsilon": 1.0}, CHARGE | {"noise": 0.05, "steps": 10**6})
    assert main(["ledger", str(tmp_path), "d"]) == 2
    assert "the accountant finds no bound for 1000000 steps" in capsys.readouterr().err


def test_the_accountant_has_a_limit_of_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def endless(*_: object) -> float:
        while True:
            sum(range(1000))

    monkeypatch.setattr(accountant, "epsilon", endless)
    monkeypatch.setattr(report, "resource_limits", lambda: resource_limits(1))
    with pytest.raises(UserError, match="no result yet"):
        report.ledger_data(write(tmp_path, HEAD, CHARGE))


def test_the_limits_end_with_the_body() -> None:
    with pytest.raises(MemoryError), resource_limits(size=64 << 20):
        bytearray(8 << 30)
    assert len(bytearray(256 << 20)) == 256 << 20


BUDGET = {"ledger": "/nonexistent", "epsilon": 1, "delta": 1e-5}
PROMISE = {
    "budget": BUDGET,
    "data": "d",
    "epsilon": 1,
    "delta": 1e-5,
    "unit": "record",
    "clip": 1,
    "rows_per_person": 8,
}
IDENTITY = {"data": {"kind": "digits"}, "model": {}, "base": None, "seed": 0, "privacy": PROMISE}
RUN = {"run": "r", "identity": IDENTITY}
LINEAGE = {"checkpoint": "0" * 64, "step": 1}
RUNS: list[object] = [
    [], 5, {}, {"run": "r", "identity": {}}, RUN | {"run": 5}, RUN | {"run": "\x1b"}, RUN | {"more": 1},
    *(
        RUN | {"identity": IDENTITY | each}
        for each in (
            {"privacy": 5}, {"privacy": PROMISE | {"budget": BUDGET | {"ledger": 5}}},
            {"privacy": PROMISE | {"budget": 5}}, {"privacy": PROMISE | {"data": "../../etc/passwd"}},
            {"privacy": PROMISE | {"data": "a\0b"}}, {"privacy": PROMISE | {"data": ["d"]}},
            {"privacy": PROMISE | {"budget": BUDGET | {"ledger": "/a\0b"}}}, {"privacy": PROMISE | {"epsilon": 1e-9}},
            {"data": 5}, {"data": {"masked_by": 5}}, {"data": {"masked_by": {"sha256": 5}}}, {"base": 5},
            {"base": {"a": 5}}, {"seed": "0"}, {"model": 5},
        )
    ),
]  # fmt: skip


def refused(directory: Path, lineage: object, run: object) -> str:
    (directory / "lineage.json").write_text(json.dumps(lineage))
    (directory / "privacy.json").write_text(json.dumps(run))
    with pytest.raises(UserError) as error:
        receipt(directory)
    return str(error.value)


@pytest.mark.parametrize("run", RUNS, ids=str)
def test_an_identity_that_no_run_writes_is_refused(tmp_path: Path, run: object) -> None:
    assert "the identity of the run cannot be read" in refused(tmp_path, LINEAGE, run)


LINEAGES = [
    [1],
    {},
    *(LINEAGE | each for each in ({"step": "1"}, {"step": 1.5}, {"step": 0}, {"step": True}, {"checkpoint": 5})),
]


@pytest.mark.parametrize("lineage", LINEAGES, ids=str)
def test_a_lineage_that_no_run_writes_is_refused(tmp_path: Path, lineage: object) -> None:
    assert "no result of a private run" in refused(tmp_path, lineage, RUN)


def test_the_identity_of_a_run_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert "the ledger cannot" not in (found := refused(tmp_path, LINEAGE, RUN))
    assert "ledger /nonexistent, data set d: it cannot be read" in found
