"""Preferences: read as pairs of answers, and learned by their difference alone."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import LlamaForCausalLM

from tests.support.chat_tokenizer import FORGETS_REASONING, LLAMA, bytes_tokenizer, write_rows
from tests.support.torchrun_ranks import train_by_ranks
from tests.support.training_runs import (
    assert_close,
    assert_same,
    config,
    read_metrics,
    weights,
)
from workloads.checkpoint import newest
from workloads.errors import UserError
from workloads.training import data, dpo, memory, sharded
from workloads.training.config import Preferences
from workloads.training.conversations import NOT_LEARNED
from workloads.training.models import build_shapes
from workloads.training.preferences import Preference, parse
from workloads.training.run import train
from workloads.training.stopping import StopRequest

USER, GOOD, BAD = (
    {"role": role, "content": text} for role, text in (("user", "2+2?"), ("assistant", "4"), ("assistant", "5"))
)
PAIR = Preference([USER], [GOOD], [BAD], None)


def test_the_loss_is_that_of_the_paper() -> None:
    """
    Computed by hand: rewards 0.1 x 1 and 0.1 x -0.5, so a margin of 0.15, and ln(1 + exp(-0.15)) = 0.620957.
    """
    policy, reference = torch.tensor([[-1.0, -3.0], [-2.0, -2.5]]), torch.tensor([[-2.0, -2.5], [-2.0, -2.5]])
    losses, margins = dpo.loss(policy, reference, beta=0.1)
    assert losses.tolist() == pytest.approx([0.620957, math.log(2)], abs=1e-6)
    assert margins.tolist() == pytest.approx([0.15, 0.0], abs=1e-6)


def test_the_log_probability_of_an_answer_is_the_sum_over_its_tokens() -> None:
    """
    A model of two tokens with probabilities 1/4 and 3/4: the answers 1, 1 and 0 have 9/16 and 1/4.
    """

    class Fixed(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.tensor([1.0, 3.0]).log().expand(*x.shape, 2)

    y = torch.tensor([[[NOT_LEARNED, 1, 1], [NOT_LEARNED, 0, NOT_LEARNED]]])
    found = dpo.answer_log_probs(Fixed(), torch.zeros_like(y), y)
    assert found.exp().tolist() == [pytest.approx([9 / 16, 1 / 4])]


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "2+2?", "chosen": "4", "rejected": "5"},
        {"prompt": [USER], "chosen": [GOOD], "rejected": [BAD]},
        {"messages": [USER], "chosen": "4", "rejected": [BAD]},
        {"prompt": "2+2?", "chosen": [USER, GOOD], "rejected": [USER, BAD]},
        {"chosen": [USER, GOOD], "rejected": [USER, BAD]},
        {"prompt": None, "messages": [USER], "chosen": [{**GOOD, "reasoning": None}], "rejected": [BAD], "tools": None},
    ],
)
def test_all_usual_forms_of_a_row_are_the_same_preference(row: Any) -> None:
    assert parse(row) == PAIR


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (['{"prompt": '], "rows.jsonl:1: the line is no JSON"),
        (["[]"], "rows.jsonl:1: the row is no object"),
        ([{"prompt": "a", "chosen": "b"}], "rows.jsonl:1: rejected is neither a text nor a list of messages"),
        ([{"chosen": "b", "rejected": "c"}], "rows.jsonl:1: the row has no prompt"),
        (
            [{"prompt": [USER], "chosen": [USER], "rejected": "c"}],
            "chosen has no answer: its last message has not role",
        ),
        (
            [{"prompt": "a", "chosen": [{"role": "assistant", "content": "b", "weight": 0}], "rejected": "c"}],
            "chosen has an answer of weight 0",
        ),
        ([{"prompt": "a", "chosen": "b", "rejected": "c", "functions": [{}]}], "the row has functions, which is not"),
        ([{"prompt": "x" * 99, "chosen": "b", "rejected": "c"}], "no pair in .* fits 64 tokens; 1 pairs longer"),
    ],
)
def test_malformed_preferences_are_named(rows: list[Any], message: str, model: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        data.load(preferences(write_rows(tmp_path / "rows.jsonl", rows), model))


def preferences(path: str, tokenizer: Path, **values: Any) -> Preferences:
    return Preferences(path=path, tokenizer=str(tokenizer), **{"sequence_length": 64, "held_out": 0.0, **values})


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a tiny model with its tokenizer."""
    path = tmp_path_factory.mktemp("model")
    bytes_tokenizer().save_pretrained(path)
    torch.manual_seed(0)
    LlamaForCausalLM(LLAMA).save_pretrained(path)
    return path


ROWS = [{"prompt": f"{n}?", "chosen": "yes" * (n % 3 + 1), "rejected": "no" * (n % 4 + 1)} for n in range(40)]
"""The same preference in each row, with answers of different lengths."""


def changes(model: Path, rows: str, lora: bool = False, **values: Any) -> list[str]:
    directory = {"kind": "hugging-face", "path": str(model), "lora": {"rank": 4} if lora else None}
    return [
        f"model={json.dumps(directory)}", f"data={preferences(rows, model, **values).model_dump_json()}",
        "optimizer.learning_rate=0.003", "steps=12", "global_batch=8", "accumulate=1", "schedule.kind=constant",
        "report_every_steps=1", "saving.every_steps=6",
    ]  # fmt: skip


@pytest.fixture
def rows(tmp_path: Path) -> str:
    return write_rows(tmp_path / "rows.jsonl", ROWS)


def lines(out: Path) -> list[dict[str, Any]]:
    return [line for line in read_metrics(out) if "loss" in line and "event" not in line]


def test_only_the_answers_count_and_short_ones_are_padded(model: Path, rows: str) -> None:
    tokenizer = bytes_tokenizer()
    pairs = data.load(preferences(rows, model))
    assert pairs.x.shape == pairs.y.shape == (40, 2, 64)
    learned = [tokenizer.decode(y[y >= 0]) for y in pairs.y[1]]
    assert learned == ["yesyes<|end|>", "nono<|end|>"]
    x, _ = pairs.take(torch.tensor([0]))
    assert tokenizer.decode(x[0, 0]) == "<|user|>0?<|end|><|assistant|>yes"


def test_parquet_gives_the_same_pairs(model: Path, rows: str, tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "rows.parquet")
    same = data.load(preferences(str(tmp_path / "rows.parquet"), model))
    assert same.digest() == data.load(preferences(rows, model)).digest()


def test_a_prompt_is_held_out_with_all_its_answers(model: Path, tmp_path: Path) -> None:
    twice = [{**row, "rejected": f"{row['rejected']}{n}"} for row in ROWS for n in (1, 2)]
    config = preferences(write_rows(tmp_path / "twice.jsonl", twice), model, held_out=0.3)
    sets = [{str(x[0, :8].tolist()) for x in part.x} for part in (data.load(config), data.held_out(config))]
    assert sets[0] and sets[1] and not sets[0] & sets[1]
    assert len(data.held_out(config)) == 2 * len(sets[1])


def test_an_answer_of_several_messages_needs_a_template_that_keeps_them(tmp_path: Path) -> None:
    bytes_tokenizer(FORGETS_REASONING).save_pretrained(tmp_path)
    thinking = [{**GOOD, "reasoning": "hm"}, USER, GOOD]
    path = write_rows(tmp_path / "rows.jsonl", [{"prompt": "a", "chosen": thinking, "rejected": "b"}])
    with pytest.raises(UserError, match="the chat template changes earlier messages of an answer that has several"):
        data.load(preferences(path, tmp_path))


def test_an_answer_of_which_the_template_writes_nothing_is_refused(tmp_path: Path) -> None:
    silent = "{% for m in messages if m.role == 'user' %}<|user|>{{ m.content }}{% endfor %}"
    bytes_tokenizer(silent).save_pretrained(tmp_path)
    path = write_rows(tmp_path / "rows.jsonl", ROWS)
    with pytest.raises(UserError, match="the chat template writes nothing for an answer"):
        data.load(preferences(path, tmp_path))


@pytest.mark.parametrize("lora", [False, True])
def test_a_model_prefers_afterwards_what_was_chosen(lora: bool, model: Path, rows: str, tmp_path: Path) -> None:
    """
    With the answers exchanged it learns the opposite, so the direction of the loss is what decides.
    """
    more = ("optimizer.learning_rate=0.05",) if lora else ()
    exchanged = [{**row, "chosen": row["rejected"], "rejected": row["chosen"]} for row in ROWS]
    paths = {"right": rows, "exchanged": write_rows(tmp_path / "exchanged.jsonl", exchanged)}
    for name, path in paths.items():
        train(config("lora", *changes(model, path, lora, held_out=0.2), *more), tmp_path / name, {})
    first, *_, last = lines(tmp_path / "right")

    assert (first["loss"], first["accuracy"], first["margin"]) == pytest.approx((math.log(2), 0, 0), abs=1e-5)
    assert last["accuracy"] == 1 and last["margin"] > 0.1 and last["loss"] < 0.6
    final = read_metrics(tmp_path / "right")[-1]
    assert final["held_out_accuracy"] == 1 and final["held_out_loss"] < 0.6
    gains = [yes_over_no(model, tmp_path / name, lora) - yes_over_no(model, None, lora) for name in paths]
    assert gains[0] > 0.5 and gains[1] < -0.5


def yes_over_no(model: Path, out: Path | None, lora: bool) -> float:
    """Return how much more probable yes is than no after a prompt, as a difference of logarithms."""
    from workloads.training.config import HuggingFace, Lora
    from workloads.training.initial_weights import build

    built = build(HuggingFace(path=str(model), lora=Lora(rank=4) if lora else None)).eval()
    if out:
        built.load_state_dict(weights(out), strict=False)
    pairs = data.load(
        preferences(write_rows(model / "one.jsonl", [{"prompt": "7?", "chosen": "yes", "rejected": "no"}]), model)
    )
    with torch.no_grad():
        yes, no = dpo.answer_log_probs(built, *pairs.take(torch.tensor([0])))[0].tolist()
    return float(yes - no)


def test_a_stop_changes_nothing(model: Path, rows: str, tmp_path: Path) -> None:
    """
    The reference stays that of the initial weights, so it is a part of the checkpoints.
    """
    for lora in (False, True):
        whole, parts = tmp_path / f"whole-{lora}", tmp_path / f"parts-{lora}"
        train(config("lora", *changes(model, rows, lora)), whole, {})
        train(config("lora", *changes(model, rows, lora)), parts, {}, stop_at=5)
        train(config("lora", *changes(model, rows, lora)), parts, {})
        assert_same(weights(whole), weights(parts))


def test_a_stop_does_not_wait_for_the_reference(
    model: Path, rows: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The request comes with the second of five batches; the next start measures the reference whole.
    """
    calls: list[int] = []

    def stopping(self: StopRequest) -> bool:
        calls.append(1)
        return len(calls) == 2

    with monkeypatch.context() as patch:
        patch.setattr(StopRequest, "__call__", stopping)
        assert not train(config("lora", *changes(model, rows)), tmp_path / "run", {})
    assert len(calls) == 2 and read_metrics(tmp_path / "run")[-1]["step"] == 0
    train(config("lora", *changes(model, rows)), tmp_path / "run", {})
    train(config("lora", *changes(model, rows)), tmp_path / "whole", {})
    assert_same(weights(tmp_path / "whole"), weights(tmp_path / "run"))


def test_a_batch_may_be_divided(model: Path, rows: str, tmp_path: Path) -> None:
    for name, parts in (("whole", 1), ("divided", 4)):
        train(config("lora", *changes(model, rows), f"accumulate={parts}"), tmp_path / name, {})
    assert_close(weights(tmp_path / "whole"), weights(tmp_path / "divided"))


def test_other_pairs_cannot_follow_a_stop(model: Path, rows: str, tmp_path: Path) -> None:
    train(config("lora", *changes(model, rows)), tmp_path / "run", {}, stop_at=3)
    write_rows(Path(rows), ROWS[::-1])
    with pytest.raises(UserError, match="the preferences are not those that the run started with"):
        train(config("lora", *changes(model, rows)), tmp_path / "run", {})


def test_two_processes_that_share_a_model_learn_what_one_does(model: Path, rows: str, tmp_path: Path) -> None:
    given = changes(model, rows, held_out=0.2)
    train(config("lora", *given), tmp_path / "one", {})
    for arguments in (["--stop-at", "6"], []):
        train_by_ranks(2, tmp_path / "two", "lora", *given, "sharding=full", arguments=arguments)
    found = newest(tmp_path / "two" / "checkpoints")
    assert found
    assert_close(weights(tmp_path / "one"), sharded.load_whole(found)["model"])


def test_a_model_that_learned_conversations_goes_on_with_preferences(model: Path, rows: str, tmp_path: Path) -> None:
    talks = [{"messages": [USER | {"content": f"{n}?"}, GOOD]} for n in range(160)]
    path = write_rows(tmp_path / "talks.jsonl", talks)
    chat = {"kind": "conversations", "path": path, "tokenizer": str(model), "sequence_length": 64, "held_out": 0.2}
    given = changes(model, rows, held_out=0.2)
    train(config("lora", *given, f"data={json.dumps(chat)}", "steps=10"), tmp_path / "parent", {})
    tuning = json.dumps({"parent": str(tmp_path / "parent"), "may_lose": 0.9, "evaluate_every_steps": 6})
    train(config("lora", *given, f"fine_tuning={tuning}"), tmp_path / "child", {})
    own, old = json.loads((tmp_path / "child" / "lineage.json").read_text())["scores"]
    assert own["parent"] == {"accuracy": 0.0, "loss": pytest.approx(math.log(2), abs=1e-5)}
    assert own["accuracy"] == 1 and own["answers"] == len(data.held_out(preferences(rows, model, held_out=0.2)))
    assert old["answers"] > own["answers"], "tokens"


def test_a_pair_needs_the_memory_of_two_texts(model: Path, rows: str) -> None:
    pair = config("lora", *changes(model, rows), "global_batch=4")
    text = {"kind": "text", "path": "x", "tokenizer": str(model), "sequence_length": 64}
    both = config("lora", *changes(model, rows), f"data={json.dumps(text)}", "global_batch=8")
    assert memory.estimate(pair, build_shapes(pair.model)) == memory.estimate(both, build_shapes(both.model))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["chunked_loss=true"], "preferences need the log-probability of each answer"),
        (["elastic=true"], "elastic runs cannot learn preferences"),
        (['fine_tuning={"parent": "/p", "replay": 0.5}'], "preferences share no batches with others"),
    ],
)
def test_impossible_combinations_are_refused(more: Sequence[str], message: str, model: Path, rows: str) -> None:
    with pytest.raises(UserError, match=message):
        config("lora", *changes(model, rows), *more)
