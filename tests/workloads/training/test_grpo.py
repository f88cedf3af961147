"""Tasks with a verifiable reward: read, answered by the model itself, and learned from the rewards alone."""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import LlamaForCausalLM

from tests.support.chat_tokenizer import LLAMA, bytes_tokenizer, write_rows
from tests.support.torchrun_ranks import train_by_ranks
from tests.support.training_runs import assert_same, config, read_metrics, weights
from workloads.errors import UserError
from workloads.training import data, grpo, memory
from workloads.training.config import Tasks
from workloads.training.fine_tuning import NothingLearned
from workloads.training.initial_weights import build
from workloads.training.models import build_shapes
from workloads.training.rollouts import batches, ends_of, generate
from workloads.training.run import train

PROMPTS = [f"{n}?" for n in range(40)]
ROWS = [{"prompt": prompt, "answer": 7} for prompt in PROMPTS]
"""The right answer to each prompt is 7, of the ten digits that the model writes at first."""
LORA = {"rank": 8, "layers": ["q_proj", "v_proj", "o_proj", "up_proj", "down_proj"]}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a tiny model with its tokenizer."""
    path = tmp_path_factory.mktemp("model")
    bytes_tokenizer().save_pretrained(path)
    torch.manual_seed(0)
    LlamaForCausalLM(LLAMA).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def parent(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run that has learned to answer each prompt with any digit."""
    out, digit = tmp_path_factory.mktemp("parent"), random.Random(0)
    talks = [
        {"messages": [{"role": "user", "content": prompt}, {"role": "assistant", "content": str(digit.randrange(10))}]}
        for prompt in PROMPTS * 4
    ]
    chat = {"kind": "conversations", "path": write_rows(out / "talks.jsonl", talks), "tokenizer": str(model),
            "sequence_length": 24, "held_out": 0.1, "packed": False}  # fmt: skip
    train(config("lora", *common(model), f"data={json.dumps(chat)}", "steps=120", "global_batch=32"), out / "run", {})
    return out / "run"


def common(model: Path, lora: bool = False) -> list[str]:
    directory = {"kind": "hugging-face", "path": str(model), "lora": LORA if lora else None}
    return [
        f"model={json.dumps(directory)}", "schedule.kind=constant", "device=cpu", "report_every_steps=1",
        "accumulate=1", "optimizer.learning_rate=0.003", "recompute_activations=false", "saving.every_steps=4",
    ]  # fmt: skip


def tasks(path: str, tokenizer: Path, **values: Any) -> Tasks:
    fields = {"sequence_length": 24, "answer_tokens": 4, "held_out": 0.2, **values}
    return Tasks.model_validate_json(json.dumps({"path": path, "tokenizer": str(tokenizer), **fields}))


@pytest.fixture
def rows(tmp_path: Path) -> str:
    return write_rows(tmp_path / "rows.jsonl", ROWS)


@pytest.mark.parametrize("kind", ["exact", "number", "boxed"])
@pytest.mark.parametrize("row", [{"prompt": "1?"}, {"prompt": "1?", "answer": ""}, {"prompt": "1?", "answer": " "}])
def test_a_rule_that_compares_refuses_rows_without_an_answer(
    model: Path, tmp_path: Path, kind: str, row: dict[str, str]
) -> None:
    path = write_rows(tmp_path / "rows.jsonl", [*ROWS[:2], row])

    with pytest.raises(UserError, match=f"rows.jsonl:3: the row has no answer, and rule {kind} compares"):
        data.load(tasks(path, model, rewards=[{"kind": "thought"}, {"kind": kind}]))


def test_other_rules_need_no_answer(model: Path, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl", [{"prompt": prompt} for prompt in PROMPTS])

    assert data.load(tasks(path, model, rewards=[{"kind": "thought"}, {"kind": "constant"}]))


def changes(model: Path, parent: Path | None, rows: str, *more: str, lora: bool = False, **values: Any) -> list[str]:
    tuning = {"parent": str(parent), "may_lose": 0.99, "evaluate_every_steps": 100}
    start = [f"fine_tuning={json.dumps(tuning)}"] if parent else []
    return [
        *common(model, lora), f"data={tasks(rows, model, **values).model_dump_json()}", *start, "steps=6",
        "global_batch=8", "grpo.group=8", *more,
    ]  # fmt: skip


def reports(out: Path) -> list[dict[str, Any]]:
    return [line for line in read_metrics(out) if "reward" in line]


def test_an_advantage_is_the_distance_from_the_mean_of_the_group() -> None:
    """
    Computed by hand: rewards 1, 0, 0, 0 have mean 1/4 and deviation 1/2.
    """
    found = grpo.advantages(torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.3, 0.3, 0.3, 0.3]]))
    assert found[0].tolist() == pytest.approx([1.5, -0.5, -0.5, -0.5], rel=1e-3)
    assert found[1].tolist() == [0, 0, 0, 0], "nothing is learned from a group of equals"


def test_the_loss_is_the_log_probability_of_each_token_times_the_advantage() -> None:
    """
    A model of two tokens with probabilities 1/4 and 3/4: answers 1, 1 with advantage 2, and 0 with advantage -1.
    """

    class Fixed(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.tensor([1.0, 3.0]).log().expand(*x.shape, 2)

    y = torch.tensor([[-100, 1, 1], [-100, 0, -100]])
    found = grpo.loss(Fixed(), torch.zeros_like(y), y, torch.tensor([2.0, -1.0]), 1.0)
    expected = -2 * 2 * torch.tensor(0.75).log() + torch.tensor(0.25).log()
    assert float(found) == pytest.approx(float(expected), rel=1e-5)
    hot = grpo.loss(Fixed(), torch.zeros_like(y), y, torch.tensor([2.0, -1.0]), 1e9)
    assert float(hot) == pytest.approx(3 * float(torch.tensor(2.0).log())), "an even draw"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (['{"prompt": '], "rows.jsonl:1: the line is no JSON"),
        ([[]], "rows.jsonl:1: the row is no object"),
        ([{"answer": "4"}], "rows.jsonl:1: the row has no prompt"),
        ([{"messages": [{"role": "assistant", "content": "a"}], "answer": "4"}], "whose last message is not an answer"),
        ([{"prompt": "a", "answer": [4]}], "answer is neither a text nor a number"),
        ([{"prompt": "a", "answer": True}], "answer is neither a text nor a number"),
        ([{"prompt": "a", "answer": "x" * 5000}], "answer has 5000 characters"),
        ([{"prompt": "x" * 99, "answer": "4"}], "no prompt in .* fits 20 tokens; 1 prompts that leave no room"),
    ],
)
def test_malformed_tasks_are_named(rows: list[Any], message: str, model: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        data.load(tasks(write_rows(tmp_path / "rows.jsonl", rows), model))


def test_the_prompt_is_what_a_server_sends_and_its_answer_belongs_to_it(model: Path, rows: str) -> None:
    tokenizer = bytes_tokenizer()
    parts = [data.load(tasks(rows, model)), data.held_out(tasks(rows, model))]
    texts = [tokenizer.decode(y[y >= 0]) for part in parts for y in part.y]
    assert sorted(texts) == sorted(f"<|user|>{prompt}<|end|><|assistant|>" for prompt in PROMPTS)
    assert all(part.tasks and part.tasks.answers == ("7",) * len(part) for part in parts)
    assert 2 <= len(parts[1]) <= 16


def test_other_answers_are_other_data(model: Path, rows: str) -> None:
    before = data.load(tasks(rows, model)).digest()
    write_rows(Path(rows), [{**row, "answer": 8} for row in ROWS])
    assert data.load(tasks(rows, model)).digest() != before


def test_written_tokens_are_those_of_whole_forward_passes(model: Path, rows: str) -> None:
    """
    The most likely tokens by the cache are those without one, and a draw follows from the seed.
    """
    settings = config("grpo", *changes(model, None, rows))
    built = build(settings.model).eval()
    prompts = [[5, 9, 20], [7, 7, 7]]
    with torch.no_grad():
        found = generate(built, prompts, 6, frozenset({299}), None)
        for prompt, answer in zip(prompts, found, strict=True):
            for token in answer:
                assert int(built(torch.tensor([prompt]))[0, -1].argmax()) == token
                prompt = [*prompt, token]
        draws = []
        for _ in range(2):
            torch.manual_seed(3)
            draws.append(generate(built, prompts, 6, frozenset({299}), 1.0))
    assert draws[0] == draws[1] != found


def test_an_answer_ends_with_its_first_end(model: Path, rows: str) -> None:
    ends = ends_of(bytes_tokenizer(), config("grpo", *changes(model, None, rows)))
    assert [bytes_tokenizer().decode([end]) for end in sorted(ends)] == ["#", "<|end|>"], "2 by generation_config.json"


def test_prompts_of_equal_length_are_written_together() -> None:
    assert list(batches([3, 5, 3, 3, 5], 2)) == [[0, 2], [3], [1, 4]]


@pytest.mark.parametrize("lora", [False, True])
def test_a_model_learns_the_rule_from_rewards_alone(
    lora: bool, model: Path, parent: Path, rows: str, tmp_path: Path
) -> None:
    """
    With a constant reward it learns nothing: not one weight changes.
    """
    start = None if lora else parent  # adapters have another parent
    if lora:
        base = tmp_path / "base"
        built = build(config("grpo", *changes(model, None, rows)).model)
        built.load_state_dict(weights(parent))
        built.model.save_pretrained(base)
        bytes_tokenizer().save_pretrained(base)
        model = base
    rate = f"optimizer.learning_rate={0.02 if lora else 0.003}"
    more = ("steps=40", rate, "saving.every_steps=100")
    train(config("grpo", *changes(model, start, rows, *more, lora=lora)), tmp_path / "right", {})
    lines = read_metrics(tmp_path / "right")
    first, *_, last = reports(tmp_path / "right")
    assert first["reward"] < 0.3 and last["reward"] == pytest.approx(last["accuracy"])
    assert last["reward"] > (0.15 if lora else 0.8), "few adapters of a tiny model change its draws slowly"
    assert last["cut_off"] < 0.1 and 1.5 < last["answer_tokens"] < 2.5
    if lora:
        [before] = [line for line in lines if line.get("event") == "evaluated"]
        assert before["step"] == 0 and before["accuracy"] < 0.5
    assert lines[-1]["held_out_accuracy"] > 0.8

    constant = changes(model, start, rows, "steps=3", rate, lora=lora, rewards=[{"kind": "constant"}])
    with pytest.raises(NothingLearned, match="in all 3 steps, the answers to each task had equal rewards"):
        train(config("grpo", *constant), tmp_path / "constant", {})
    assert {line["loss"] for line in reports(tmp_path / "constant")} == {0}
    if not lora:
        assert_same(weights(parent), weights(tmp_path / "constant"))


def test_a_run_that_learned_nothing_is_published_with_a_reason_only(
    model: Path, parent: Path, rows: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = config("grpo", *changes(model, parent, rows, "steps=2", rewards=[{"kind": "boxed"}]))
    for _ in range(2):  # started again, it still has learned nothing
        with pytest.raises(NothingLearned) as refused:
            train(given, tmp_path, {})
    assert "the model has learned nothing, and is not published" in str(refused.value)
    lineage = json.loads((tmp_path / "lineage.json").read_text())
    assert (lineage["published"], lineage["refused"]) == (False, refused.value.reason)
    assert train(given, tmp_path, {}, publish_worse="a baseline")
    lineage = json.loads((tmp_path / "lineage.json").read_text())
    assert (lineage["published"], lineage["forced"]) == (True, "a baseline")
    assert f"published all the same (a baseline): {refused.value.reason}\n" in capsys.readouterr().out


def test_a_difference_of_rewards_is_remembered_by_checkpoints(
    model: Path, parent: Path, rows: str, tmp_path: Path
) -> None:
    """
    The last start of a run may see none.
    """
    given = changes(model, parent, rows)
    train(config("grpo", *given), tmp_path, {}, stop_at=3)
    easy = changes(model, parent, rows, "steps=4", rewards=[{"kind": "constant"}])
    assert train(config("grpo", *easy), tmp_path, {})


def test_a_stop_changes_nothing(model: Path, parent: Path, rows: str, tmp_path: Path) -> None:
    given = config("grpo", *changes(model, parent, rows))
    train(given, tmp_path / "whole", {})
    train(given, tmp_path / "parts", {}, stop_at=3)
    train(given, tmp_path / "parts", {})
    assert_same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    assert any(line["loss"] for line in reports(tmp_path / "whole"))


@pytest.mark.parametrize("arguments", [[], ["--stop-at", "3"]])
def test_two_processes_write_answers_of_their_own(arguments: list[str], model: Path, rows: str, tmp_path: Path) -> None:
    given = changes(model, None, rows, "accumulate=2")
    for each in [arguments, []] if arguments else [[]]:
        # no answer of the untrained model has a reward
        train_by_ranks(2, tmp_path / "two", "grpo", *given, arguments=[*each, "--publish-worse", "a test"])
    last = reports(tmp_path / "two")[-1]
    assert last["step"] == 6 and last["answer_tokens"] > 1
    assert read_metrics(tmp_path / "two")[-1]["event"] == "finished"


def test_a_task_needs_the_memory_of_its_group(model: Path, rows: str) -> None:
    one = config("grpo", *changes(model, None, rows, "grpo.group=8", "global_batch=4", "accumulate=2"))
    text = {"kind": "text", "path": "x", "tokenizer": str(model), "sequence_length": 24}
    other = config(
        "lora", *common(model), f"data={json.dumps(text)}", "global_batch=16", "steps=1", "chunked_loss=false"
    )
    assert memory.estimate(one, build_shapes(one.model)) == memory.estimate(other, build_shapes(other.model))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["sharding=full"], "a model that writes answers is whole in each process"),
        (["elastic=true"], "elastic runs cannot learn from tasks"),
        (["chunked_loss=true"], "which chunked_loss does not do"),
        (["compile=true"], "which compile does not do"),
        (["grpo.group=1"], "greater than or equal to 2"),
        (["data.answer_tokens=24"], "leaves no room for a prompt"),
        (["data.rewards=[]"], "at least 1"),
        (['fine_tuning={"parent": "/p", "replay": 0.5}'], "tasks share no batches with others"),
    ],
)
def test_impossible_combinations_are_refused(more: Sequence[str], message: str, model: Path, rows: str) -> None:
    with pytest.raises(UserError, match=message):
        config("grpo", *changes(model, None, rows), *more)
