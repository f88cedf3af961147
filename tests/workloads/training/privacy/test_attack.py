"""The attack on planted records: its bound beside closed forms, its records, and its place in a run."""

import json
import math
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch

from tests.support.chat_tokenizer import LLAMA, bytes_tokenizer, write_rows
from tests.support.training_runs import config
from workloads.errors import UserError
from workloads.training.config import TrainingConfig
from workloads.training.conversations import NOT_LEARNED
from workloads.training.privacy import noise, planted
from workloads.training.privacy.attack import LARGEST, Guesses, describe, lower_bound, probability
from workloads.training.privacy.receipts import receipt
from workloads.training.run import train

RUN = "0123456789abcdef0123456789abcdef"
QUICK = (
    "optimizer.kind=sgd", "optimizer.learning_rate=0.02", "schedule.kind=constant", "model.channels=16",
    "report_every_steps=1000",
)  # fmt: skip


def private(tmp_path: Path, recipe: str, *changes: str, **values: Any) -> TrainingConfig:
    budget = {"epsilon": 10.0, "delta": 1e-4, "ledger": str(tmp_path / "ledger")}
    promise = {"epsilon": 1.0, "delta": 1e-4, "data": "rows", "budget": budget, **values}
    return config(recipe, "privacy=" + json.dumps(promise), *changes)


@pytest.mark.parametrize("right", [62, 128, 1000])
def test_a_bound_without_delta_has_a_closed_form(right: int) -> None:
    """All of n guesses are right with the probability q^n, q = 1 / (1 + exp(-epsilon)): 62 guesses show 3."""
    q = 0.05 ** (1 / right)
    found = lower_bound(Guesses(records=right, guesses=right, right=right), 0.0)
    assert found == pytest.approx(math.log(q / (1 - q)), abs=3e-6)
    assert found >= 3


def test_guesses_as_good_as_a_coin_show_nothing() -> None:
    assert lower_bound(Guesses(records=200, guesses=100, right=55), 1e-5) == 0


def test_a_larger_delta_and_more_wrong_guesses_show_less() -> None:
    bounds = [lower_bound(Guesses(records=192, guesses=64, right=64), delta) for delta in (0, 1e-5, 1e-4, 1e-3)]
    assert bounds == sorted(bounds, reverse=True) and bounds[0] > bounds[-1]
    bounds = [lower_bound(Guesses(records=192, guesses=64, right=right), 1e-5) for right in range(64, 30, -1)]
    assert bounds == sorted(bounds, reverse=True)


def test_the_bound_holds_for_randomized_response() -> None:
    """A mechanism whose loss is known: the bound exceeds it in at most one of twenty runs."""
    epsilon, count = 1.0, 400
    generator = torch.Generator().manual_seed(1)
    rights = (torch.rand(2000, count, generator=generator) < 1 / (1 + math.exp(-epsilon))).sum(1).tolist()
    bounds = {right: lower_bound(Guesses(records=count, guesses=count, right=right), 0.0) for right in {*rights}}
    exceeding = sum(bounds[right] > epsilon for right in rights) / len(rights)
    assert 0.01 < exceeding <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / len(rights))


def test_a_loss_beyond_all_numbers_is_bounded() -> None:
    every = Guesses(records=100_000, guesses=100_000, right=100_000)
    assert 0 < lower_bound(every, 0.0) < LARGEST
    assert probability(every, 800.0, 1e-3) == 1.0


def test_the_description_has_the_interval_of_right_guesses() -> None:
    found = describe(Guesses(records=192, guesses=64, right=32), 1e-5)
    low, high = found["accuracy"]
    assert low < 0.5 < high and found["epsilon"] == 0 and found["epsilon_if_all_right"] > 2.9


@pytest.mark.parametrize("values", [{"right": 65}, {"guesses": 193}, {"records": 1}, {"right": -1}, {"guesses": 0}])
def test_guesses_that_no_run_makes_are_refused(values: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="1 validation error|more right guesses|more guesses"):
        Guesses(**{"records": 192, "guesses": 64, "right": 64, **values})


def test_planted_records_follow_from_the_name_of_the_run(tmp_path: Path) -> None:
    images = private(tmp_path, "digits", planted_records=300)
    one, same, other = (planted.draw(run, images, 0, torch.zeros(1, 8, 8)) for run in (RUN, RUN, RUN[::-1]))
    assert torch.equal(one.examples.x, same.examples.x) and torch.equal(one.is_trained_N, same.is_trained_N)
    assert not torch.equal(one.examples.x, other.examples.x)
    assert len(one.in_training) == int(one.is_trained_N.sum()) and 100 < len(one.in_training) < 200


def test_planted_texts_have_the_form_of_the_data(tmp_path: Path) -> None:
    data = {"kind": "conversations", "path": "x", "tokenizer": "x", "sequence_length": 50, "packed": False}
    model = {"kind": "hugging-face", "path": "x"}
    changes = (f"data={json.dumps(data)}", f"model={json.dumps(model)}", "optimizer.clip_norm=null")
    chats = private(tmp_path, "lora", *changes, planted_records=20)
    found = planted.draw(RUN, chats, 99, torch.zeros(3, 50, dtype=torch.int32)).examples
    assert found.x.shape == found.y.shape == (20, 50) and found.x.dtype == found.y.dtype == torch.int32
    assert torch.equal(found.x[:, 1 : planted.TOKENS], found.y[:, : planted.TOKENS - 1])
    assert (found.y[:, planted.TOKENS :] == NOT_LEARNED).all() and int(found.x.max()) < 99


def test_guesses_are_about_those_whose_loss_has_fallen_least() -> None:
    fallen, is_trained = torch.tensor([9.0, -1, 8, -2, 7, -3] * 4), torch.tensor([True, False] * 12)
    assert planted.guess(fallen, is_trained) == Guesses(records=24, guesses=8, right=8)
    assert planted.guess(fallen, ~is_trained).right == 0


def test_the_attack_shows_what_a_run_without_noise_gives_away(tmp_path: Path) -> None:
    """
    At least 2 without noise and clip, where one wrong guess makes 2.6 of 3; less than 1 with epsilon 1.
    """
    silent = mock.patch.object(noise, "gaussian", lambda shape, deviation: torch.zeros(shape, dtype=torch.float64))
    with silent:
        loud = private(tmp_path / "loud", "digits", "steps=300", *QUICK, planted_records=210, clip=1e6, epsilon=10.0)
        train(loud, tmp_path / "loud/run", {})
    train(private(tmp_path / "kept", "digits", "steps=300", *QUICK, planted_records=210), tmp_path / "kept/run", {})
    without, with_noise = (receipt(tmp_path / name / "run")["attack"] for name in ("loud", "kept"))
    assert without and with_noise
    assert without["epsilon"] >= 2 and with_noise["epsilon"] < 1
    assert without["epsilon_if_all_right"] >= without["epsilon"]


def test_a_language_model_is_attacked_and_a_run_that_goes_on_as_well(tmp_path: Path) -> None:
    from transformers import LlamaForCausalLM

    torch.manual_seed(0)
    LlamaForCausalLM(LLAMA).save_pretrained(tmp_path / "base")
    bytes_tokenizer().save_pretrained(tmp_path / "base")
    rows = [
        {"messages": [{"role": "user", "content": f"a{n}"}, {"role": "assistant", "content": "b"}]} for n in range(40)
    ]
    data = {
        "kind": "conversations", "path": write_rows(tmp_path / "rows.jsonl", rows),
        "tokenizer": str(tmp_path / "base"), "sequence_length": 64, "held_out": 0.0,
    }  # fmt: skip
    model = {"kind": "hugging-face", "path": str(tmp_path / "base"), "lora": None}
    changes = (
        f"data={json.dumps(data)}", f"model={json.dumps(model)}", "global_batch=4", "accumulate=1", "steps=2",
        "saving.every_steps=1", "optimizer.clip_norm=null",
    )  # fmt: skip
    settings = private(tmp_path, "lora", *changes, planted_records=16)
    train(settings, tmp_path / "run", {}, stop_at=1)
    with pytest.raises(UserError, match="result of a private run"):
        receipt(tmp_path / "run")
    train(settings, tmp_path / "run", {})
    found = receipt(tmp_path / "run")["attack"]
    assert found and (found["records"], found["guesses"]) == (16, 5)


def test_a_receipt_needs_the_attack_that_was_promised(tmp_path: Path) -> None:
    train(private(tmp_path, "digits", "steps=1", *QUICK, planted_records=16), tmp_path / "run", {})
    lineage = tmp_path / "run/lineage.json"
    known = json.loads(lineage.read_text())
    lineage.write_text(json.dumps({**known, "attack": None}))
    with pytest.raises(UserError, match="no result of an attack on 16 planted records"):
        receipt(tmp_path / "run")


def test_pairs_have_no_planted_records(tmp_path: Path) -> None:
    data = {"kind": "preferences", "path": "x", "tokenizer": "x", "sequence_length": 64}
    with pytest.raises(UserError, match="privacy refuses planted_records 16: the loss of a pair of random answers"):
        private(
            tmp_path, "dpo", f"data={json.dumps(data)}", 'model={"kind": "hugging-face", "path": "x"}',
            "optimizer.clip_norm=null", planted_records=16,
        )  # fmt: skip
