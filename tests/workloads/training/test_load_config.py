"""A configuration from a recipe or a file: all errors are reported at once, with values that would be right."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from workloads.errors import UserError
from workloads.recipes import RECIPES
from workloads.training.__main__ import main
from workloads.training.config import Conversations, Grpo, Lora, Reward, TrainingConfig
from workloads.training.load_config import load_config


def numbers(part: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each number of a JSON schema, with its place."""
    if isinstance(part, dict):
        if part.get("type") == "number":
            yield path, part
        for key, value in part.items():
            yield from numbers(value, f"{path}/{key}")
    elif isinstance(part, list):
        for value in part:
            yield from numbers(value, path)


def test_every_float_is_bounded() -> None:
    found = dict(numbers(TrainingConfig.model_json_schema()))

    assert len(found) >= 15
    assert [path for path, part in found.items() if not {"maximum", "exclusiveMaximum"} & part.keys()] == []
    assert [path for path, part in found.items() if not {"minimum", "exclusiveMinimum"} & part.keys()] == []


@pytest.mark.parametrize("value", ["Infinity", "NaN", "1e308", "1e-320"])
@pytest.mark.parametrize(
    ("kind", "change"),
    [(Reward, '{{"kind": "exact", "weight": {}}}'), (Grpo, '{{"temperature": {}}}'), (Lora, '{{"alpha": {}}}')],
)
def test_no_float_makes_a_score_infinite(kind: type[BaseModel], change: str, value: str) -> None:
    with pytest.raises(ValidationError):
        kind.model_validate_json(change.format(value))


@pytest.mark.parametrize("recipe", RECIPES)
def test_one_process_divides_the_batch_of_a_recipe(recipe: str) -> None:
    """
    Before, `grpo` started with no number of processes: its batch was smaller than the parts of one.
    """
    config = RECIPES[recipe]()
    assert config.global_batch % config.accumulate == 0


@pytest.mark.parametrize("recipe", RECIPES)
def test_what_is_printed_is_read_again(recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([recipe, "--print"]) == 0
    (tmp_path / "run.json").write_text(capsys.readouterr().out)

    assert load_config(str(tmp_path / "run.json")) == RECIPES[recipe]()


@pytest.mark.parametrize(
    ("what", "changes", "expected"),
    [
        (
            "digit",
            [],
            "recipe: no such recipe, digit; one of digits, deepseek-v3-tiny, deepseek-v3, lora, dpo, grpo. "
            "Write digits.",
        ),
        ("digits", ["steps"], "--set: 'steps' is not a change; KEY=VALUE. Write it like steps=100."),
        (
            "digits",
            ["model.a.b=1"],
            "--set: there is no model.a with a value b; a key that --print lists. Correct the key.",
        ),
        (
            "digits",
            ["steps=0", "optimiser=sgd"],
            "digits: steps: got 0; input should be greater than 0. Correct it there, or with --set.\n"
            "digits: optimiser: there is no such key. Write optimizer.",
        ),
        (
            "digits",
            ['data={"kind": "text", "path": "/", "sequence_length": 8}'],
            "digits: a model of kind image-classifier cannot learn from data of kind text. "
            "Correct it there, or with --set.",
        ),
        (
            "deepseek-v3-tiny",
            ["data.sequence_length=1024"],
            "deepseek-v3-tiny: data.sequence_length is 1024, model.max_position_embeddings 512. "
            "Correct it there, or with --set.",
        ),
        (
            "lora",
            ["model.lora.rank=0"],
            "lora: model.lora.rank: got 0; input should be greater than 0. Correct it there, or with --set.",
        ),
        (
            "grpo",
            ["data.answer_tokens=1536", "data.sequence_length=1024"],
            "grpo: data.answer_tokens is 1536, and data.sequence_length 1024 leaves no room for a prompt; "
            "write at most 1023, or a longer data.sequence_length. Correct it there, or with --set.",
        ),
        (
            "lora",
            ['model={"kind": "hugging-face"}'],
            "lora: model.path: the key is missing. Write it there, or with --set.",
        ),
        ("nowhere.json", [], "nowhere.json: the file cannot be read: No such file or directory. Correct its path."),
    ],
)
def test_what_is_wrong_is_reported_whole(what: str, changes: list[str], expected: str) -> None:
    with pytest.raises(UserError) as refused:
        load_config(what, changes)
    assert str(refused.value) == expected


def test_a_file_that_is_no_json_is_reported(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(UserError, match="the file is not JSON: "):
        load_config(str(tmp_path / "run.json"))


def test_changes_reach_into_parts() -> None:
    changed = load_config("digits", ["schedule.kind=adaptive", "saving.keep_every=50", "steps=7"])
    before = json.loads(load_config("digits").model_dump_json())
    before["schedule"]["kind"], before["saving"]["keep_every"], before["steps"] = "adaptive", 50, 7
    assert json.loads(changed.model_dump_json()) == before


def test_data_of_another_kind_loses_the_keys_of_the_kind_before() -> None:
    """
    In any order, and a kind that stays the same keeps its keys.
    """
    changes = ["data.path=chats.jsonl", "data.tokenizer=base", "data.sequence_length=64", "data.kind=conversations"]
    data = load_config("lora", changes).data
    assert isinstance(data, Conversations)
    assert (data.path, data.tokenizer, data.sequence_length) == ("chats.jsonl", "base", 64)
    same = load_config("lora", ["data.kind=text"])
    assert same == load_config("lora")


def test_a_wrong_call_is_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["digits"]) == 2
    assert capsys.readouterr().err == (
        "error: --out: the option is missing\n  expected: a directory for the run\n  help:     Add --out DIR\n"
    )
