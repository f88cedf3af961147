"""Private runs: noise of the right size for any number of processes, charges before steps, nothing else published."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.chat_tokenizer import LLAMA, bytes_tokenizer, write_rows
from tests.support.training_runs import HOROVODRUN, TORCHRUN, config, launched, read_metrics, weights
from workloads.checkpoint import load, newest
from workloads.errors import UserError
from workloads.training.config import TrainingConfig
from workloads.training.initial_weights import build
from workloads.training.privacy import accountant, noise
from workloads.training.privacy.accountant import Mechanism
from workloads.training.privacy.charges import Charge
from workloads.training.privacy.ledger import Ledger
from workloads.training.run import train

PLAIN = ("schedule.kind=constant", "optimizer.kind=sgd", "optimizer.momentum=0", "optimizer.weight_decay=0")
QUIET = ("optimizer.learning_rate=1.0", "steps=1", "saving.every_steps=1", "model.channels=32", *PLAIN)
"""One step whose change of the weights is the private sum, divided by the batch."""


def promise(tmp_path: Path, **values: Any) -> str:
    budget = {"epsilon": 8.0, "delta": 1e-4, "ledger": str(tmp_path / "ledger")}
    return "privacy=" + json.dumps({"epsilon": 0.5, "delta": 1e-4, "data": "rows", "budget": budget, **values})


def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger", "rows")


def private(tmp_path: Path, *changes: str, **values: Any) -> TrainingConfig:
    return config("digits", promise(tmp_path, **values), *changes)


def change(out: Path) -> torch.Tensor:
    """Return the change of all weights since the start."""
    start = build(config("digits", *QUIET).model, 0).state_dict()
    return torch.cat([(value - start[name]).flatten() for name, value in weights(out).items()])


def noise_of(out: Path) -> float:
    [line] = [line for line in read_metrics(out) if line.get("event") == "privacy"]
    return float(line["noise"])


def check_size(out: Path, noise_multiplier: float) -> None:
    """The clipped sum of about 96 records has a norm of about 96 at most, which is 0.8 in each of 14,698 weights."""
    moved = change(out) * config("digits").global_batch
    assert float(moved.norm()) / len(moved) ** 0.5 == pytest.approx(noise_multiplier, rel=0.04)


def test_the_noise_of_one_process_has_the_size_of_the_theory(tmp_path: Path) -> None:
    train(private(tmp_path, *QUIET, epsilon=0.05), tmp_path / "one", {})
    found = noise_of(tmp_path / "one")
    assert found > 3
    check_size(tmp_path / "one", found)


@pytest.mark.parametrize("launcher", [HOROVODRUN, TORCHRUN], ids=["horovod", "torchrun"])
def test_two_processes_add_the_noise_once(launcher: tuple[str, ...], python: Path, tmp_path: Path) -> None:
    launched(launcher, 2, tmp_path / "two", promise(tmp_path, epsilon=0.05), *QUIET, "world=2", python=python)
    check_size(tmp_path / "two", noise_of(tmp_path / "two"))
    assert len(ledger(tmp_path).charges()) == 1  # the first process alone charges


def test_missing_noise_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noise, "gaussian", lambda shape, deviation: torch.zeros(shape))
    train(private(tmp_path, *QUIET, epsilon=0.05), tmp_path / "one", {})
    with pytest.raises(AssertionError):
        check_size(tmp_path / "one", noise_of(tmp_path / "one"))


def test_two_runs_of_one_configuration_differ(tmp_path: Path) -> None:
    for name in ("one", "two"):
        train(private(tmp_path, *QUIET, epsilon=0.05), tmp_path / name, {})
    one, two = change(tmp_path / "one"), change(tmp_path / "two")
    assert abs(float(torch.corrcoef(torch.stack([one, two]))[0, 1])) < 0.5


def test_nothing_but_the_weights_is_published(tmp_path: Path) -> None:
    train(private(tmp_path), tmp_path / "out", {})
    texts = "".join(path.read_text() for path in (tmp_path / "out").glob("*.json*"))
    for word in ("loss", "accuracy", "seed_", "held_out_", "answers"):
        assert f'"{word}' not in texts
    lineage = json.loads((tmp_path / "out/lineage.json").read_text())
    assert [each["sha256"] for each in lineage["data"]] == [None]
    found = newest(tmp_path / "out/checkpoints")
    assert found
    saved = load(found)
    assert (saved["data_sha256"], saved["earlier_data"]) == (None, [])
    assert saved.keys() == {
        "step",
        "config",
        "data",
        "data_sha256",
        "earlier_data",
        "model",
        "distributed",
        "optimizer",
        "scaler",
        "tuning",
        "privacy",
    }


def steps(charges: list[Charge]) -> list[tuple[int, int]]:
    return [(each.first, each.steps) for each in charges]


def test_each_interval_is_charged_before_it_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = []
    gaussian = noise.gaussian

    def count(shape: torch.Size, deviation: float) -> torch.Tensor:
        counted.append(len(ledger(tmp_path).charges()))
        return gaussian(shape, deviation)

    monkeypatch.setattr(noise, "gaussian", count)
    train(private(tmp_path), tmp_path / "out", {})
    assert steps([*ledger(tmp_path).charges()]) == [(0, 6), (6, 6)]
    assert counted == [1] * (len(counted) // 2) + [2] * (len(counted) // 2)


def test_a_redone_interval_is_charged_again_and_the_run_ends_before_its_budget(tmp_path: Path) -> None:
    """As if it had been killed after its last step, before that checkpoint was on the drive."""
    settings = private(tmp_path)
    train(settings, tmp_path / "out", {})
    shutil.rmtree(tmp_path / "out/checkpoints/step-0000000012")
    train(settings, tmp_path / "out", {})

    charges = [*ledger(tmp_path).charges()]
    assert steps(charges)[:2] == [(0, 6), (6, 6)]
    redone = sum(each.steps for each in charges[2:])
    assert redone < 6  # the budget does not have all of them twice
    used = accountant.epsilon([each.mechanism for each in charges], 1e-4, 0.5)
    assert used <= 0.5
    assert read_metrics(tmp_path / "out")[-1]["event"] == "finished"
    assert read_metrics(tmp_path / "out")[-1]["step"] == 6 + redone


def test_a_run_that_would_exceed_the_total_is_refused_before_it_starts(tmp_path: Path) -> None:
    budget = {"epsilon": 0.6, "delta": 1e-4, "ledger": str(tmp_path / "ledger")}
    train(private(tmp_path, budget=budget), tmp_path / "one", {})
    before = ledger(tmp_path).file.read_bytes()
    with pytest.raises(UserError, match="rows has used epsilon 0.4.*, and with this run it would be 0.6"):
        train(private(tmp_path, budget=budget), tmp_path / "two", {})
    assert ledger(tmp_path).file.read_bytes() == before
    assert not (tmp_path / "two/checkpoints").exists()


def test_the_noise_keeps_the_budget_and_wastes_little_of_it() -> None:
    for target in (8.0, 1.0, 0.1):
        found = accountant.noise_multiplier(target, 1e-5, 0.05, 50)
        assert 0.9 * target <= accountant.epsilon([Mechanism(0.05, found, 50)], 1e-5, target) <= target


@pytest.mark.parametrize(
    ("changes", "values", "says"),
    [
        (("global_batch=1438",), {}, "a step takes 1438 of 1438 records on average"),
        (
            (),
            {"delta": 9e-4, "budget": {"epsilon": 8.0, "delta": 9e-4, "ledger": "/nowhere"}},
            "lets a run publish one",
        ),
    ],
)
def test_settings_that_promise_nothing_are_refused(
    tmp_path: Path, changes: tuple[str, ...], values: dict[str, Any], says: str
) -> None:
    with pytest.raises(UserError, match=says):
        train(private(tmp_path, *changes, **values), tmp_path / "out", {})


def test_persons_are_sampled_and_clipped_together(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    group = np.repeat(np.arange(60), 4)
    x, labels = generator.random((240, 8, 8), np.float32), generator.integers(0, 10, 240)
    np.savez(tmp_path / "rows.npz", x=x, labels=labels, group=group)
    data = json.dumps({"kind": "rows", "path": str(tmp_path / "rows.npz"), "held_out": 0.0})
    settings = private(tmp_path, f"data={data}", "global_batch=12", unit="person", rows_per_person=2)
    train(settings, tmp_path / "out", {})
    [line] = [line for line in read_metrics(tmp_path / "out") if line.get("event") == "privacy"]
    assert (line["unit"], line["rate"]) == ("person", pytest.approx(12 / 60))


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with a small model, its tokenizer, conversations of persons, and pairs."""
    from transformers import LlamaForCausalLM

    path = tmp_path_factory.mktemp("chat")
    bytes_tokenizer().save_pretrained(path / "model")
    torch.manual_seed(0)
    LlamaForCausalLM(LLAMA).save_pretrained(path / "model")
    answer = {"role": "assistant", "content": "y"}
    talk = [{"person": f"p{n % 20}", "messages": [{"role": "user", "content": f"{n}?"}, answer]} for n in range(60)]
    write_rows(path / "talk.jsonl", talk)
    write_rows(path / "pairs.jsonl", [{"prompt": f"{n}?", "chosen": "yes", "rejected": "no"} for n in range(60)])
    return path


@pytest.mark.parametrize("lora", [True, False], ids=["lora", "whole"])
@pytest.mark.parametrize("unit", ["record", "person", "pair"])
def test_language_models_learn_privately(chat: Path, tmp_path: Path, lora: bool, unit: str) -> None:
    pairs = unit == "pair"
    model = {"kind": "hugging-face", "path": str(chat / "model"), **({"lora": {"rank": 2}} if lora else {})}
    data = {
        "kind": "preferences" if pairs else "conversations",
        "path": str(chat / ("pairs.jsonl" if pairs else "talk.jsonl")),
        "tokenizer": str(chat / "model"), "sequence_length": 40, "held_out": 0.0,
    }  # fmt: skip
    settings = config(
        "dpo" if pairs else "lora", f"model={json.dumps(model)}", f"data={json.dumps(data)}", "steps=2",
        "global_batch=8", "accumulate=1", "optimizer.clip_norm=null", "schedule.kind=constant", "saving.every_steps=1",
        "optimizer.learning_rate=0.01", promise(tmp_path, unit="record" if pairs else unit),
    )  # fmt: skip
    train(settings, tmp_path / "out", {}, stop_at=1)
    train(settings, tmp_path / "out", {})
    assert read_metrics(tmp_path / "out")[-1]["step"] == 2
    assert steps([*ledger(tmp_path).charges()]) == [(0, 1), (1, 1)]
    found = newest(tmp_path / "out/checkpoints")
    assert found
    assert "references" not in load(found)
