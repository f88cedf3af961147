"""The whole configuration of a run and of a server can be declared, from any recipe."""

import json
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

import pytest
from pydantic import BaseModel

from rackwright.schema import run as runs
from rackwright.schema import server as servers
from rackwright.schema.run import Run
from rackwright.schema.server import Server
from workloads.recipes import RECIPES
from workloads.serving.settings import ServingSettings
from workloads.training.config import (
    Conversations,
    Digits,
    FineTuning,
    HuggingFace,
    ImageClassifier,
    Lora,
    Optimizer,
    Preferences,
    Reward,
    Rows,
    Schedule,
    Tasks,
    Text,
    TrainingConfig,
)
from workloads.training.load_config import load_config

TOKENS = {"path": "/srv/hot/data", "tokenizer": "/srv/hot/model", "sequence_length": 64}
MODELS: dict[str, BaseModel] = {
    "image-classifier": ImageClassifier(side=8, classes=10),
    "deepseek-v3": RECIPES["deepseek-v3-tiny"]().model.model_copy(update={"mtp": None}),
    "hugging-face": HuggingFace(path="/srv/hot/model", lora=Lora()),
}
DATA: dict[str, BaseModel] = {
    "digits": Digits(only=(1, 2)),
    "rows": Rows(path="/srv/hot/rows.npz"),
    "text": Text(**TOKENS, pattern="*.md"),
    "conversations": Conversations(**TOKENS, pattern="*.parquet"),
    "preferences": Preferences(**TOKENS),
    "tasks": Tasks(**TOKENS, answer_tokens=32, rewards=(Reward(kind="number"),)),
}
IMAGES, LANGUAGE = {"digits", "rows"}, {"text", "conversations", "preferences"}
LEARNS = {"image-classifier": IMAGES, "deepseek-v3": LANGUAGE, "hugging-face": LANGUAGE | {"tasks"}}
PAIRS = [(model, data) for model, kinds in LEARNS.items() for data in sorted(kinds)]
BY_HAND = {"any": "a run has the launcher of its unit", "none": "a run in a unit has a launcher, also for one process"}
"""Launchers of the command line that no run of a fleet has."""


def kinds(annotation: Any) -> set[str]:
    """Return all values of ``kind`` in the classes of *annotation*."""
    if get_origin(annotation) is Literal:
        return set(get_args(annotation))
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return kinds(annotation.model_fields["kind"].annotation)
    return {kind for each in get_args(annotation) for kind in kinds(each)}


def declare(recipe: str, launcher: str = "torchrun", **changes: Any) -> Run:
    return Run.model_validate(
        {"recipe": recipe, "hosts": ["a"], "checkpoints": {"tier": "hot"}, "launcher": launcher, "set": changes}
    )


def typed(recipe: str, **changes: Any) -> TrainingConfig:
    """Return the configuration of the command line with *changes*, each as ``--set KEY=VALUE``."""
    return load_config(recipe, [f"{name}={json.dumps(value)}" for name, value in changes.items()])


def test_this_test_has_each_kind_of_the_command_line() -> None:
    assert kinds(TrainingConfig.model_fields["model"].annotation) == {*MODELS}
    assert kinds(TrainingConfig.model_fields["data"].annotation) == {*DATA} == {data for _, data in PAIRS}
    launchers = {*get_args(TrainingConfig.model_fields["launcher"].annotation)}
    assert launchers == {*get_args(Run.model_fields["launcher"].annotation), *BY_HAND}


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize(("model", "data"), PAIRS)
def test_each_model_and_data_is_declared_from_each_recipe(recipe: str, model: str, data: str) -> None:
    changes = {"model": MODELS[model].model_dump(mode="json"), "data": DATA[data].model_dump(mode="json")}
    config = declare(recipe, **changes).config("mine", 1)

    assert (config.model, config.data) == (MODELS[model], DATA[data])
    wanted = typed(recipe, **changes, name="mine", launcher="torchrun", world=1)
    assert config == wanted
    text = declare(recipe, **changes).config_text("mine", 1)
    assert TrainingConfig.model_validate_json(text) == wanted


@pytest.mark.parametrize("recipe", RECIPES)
def test_each_schedule_optimizer_and_launcher_is_declared(recipe: str) -> None:
    own = RECIPES[recipe]()
    for kind in kinds(Schedule.model_fields["kind"].annotation):
        config = declare(recipe, schedule={"kind": kind}).config("mine", 1)
        assert config.schedule == own.schedule.model_copy(update={"kind": kind})
    for kind in kinds(Optimizer.model_fields["kind"].annotation):
        config = declare(recipe, optimizer={"kind": kind}).config("mine", 1)
        assert (config.optimizer.kind, config.optimizer.learning_rate) == (kind, own.optimizer.learning_rate)
    for launcher in get_args(Run.model_fields["launcher"].annotation):
        if own.sharding == "none" or launcher == "torchrun":
            assert declare(recipe, launcher).config("mine", 1).launcher == launcher


def targets() -> Iterator[TrainingConfig]:
    yield from (make() for make in RECIPES.values())
    parent = FineTuning(parent="/srv/warm/runs/old", old=(Text(**TOKENS), Conversations(**TOKENS)), replay=0.25)
    yield RECIPES["lora"]().model_copy(update={"fine_tuning": parent, "data": Conversations(**TOKENS)})


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_whole_configuration_of_a_run_is_declared_from_another_recipe(recipe: str) -> None:
    for target in targets():
        values = target.model_dump(mode="json", exclude=runs.RESERVED)
        found = declare(recipe, **values).config("mine", 1)
        assert found.model_dump(exclude=runs.RESERVED) == target.model_dump(exclude=runs.RESERVED)


def test_a_part_of_the_same_kind_is_merged() -> None:
    config = declare("lora", data={"kind": "text", "path": "/srv/hot/more"}, model={"lora": None}).config("mine", 1)

    assert config.data == RECIPES["lora"]().data.model_copy(update={"path": "/srv/hot/more"})
    assert config.model == HuggingFace(path="/srv/hot/model")


def test_a_wrong_value_of_another_kind_is_named_without_the_keys_of_the_recipe() -> None:
    problems = [*runs._config_problems("mine", declare("lora", data={"kind": "conversations", "pth": "x"}), 1)]

    assert {problem.path for problem in problems} == {
        ("set", "data", "conversations", key) for key in ("path", "tokenizer", "sequence_length", "pth")
    }


def test_each_setting_of_a_server_is_declared_or_follows_from_its_keys() -> None:
    defaults = ServingSettings(port=8080, anybody=True).model_dump(mode="json")
    assert {*servers.RESERVED} <= {*ServingSettings.model_fields}
    free = {name: value for name, value in defaults.items() if name not in servers.RESERVED}
    assert len(free) > 5
    server = Server.model_validate({"model": {"version": "0123456789ab"}, "hosts": ["a"], "anybody": True, "set": free})
    assert servers.settings(server, "127.0.0.1").model_dump(mode="json") == defaults | {"host": "127.0.0.1"}
