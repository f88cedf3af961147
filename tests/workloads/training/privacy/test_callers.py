"""A training without noise refuses a promise, in each place that makes one."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from tests.support.training_runs import config
from tests.workloads.training.privacy.test_private_run import private
from workloads.errors import UserError
from workloads.federation.config import check_recipe
from workloads.federation.local_training import evaluate, initial_model, train_round
from workloads.training.loop import Training

ROOT = Path(__file__).parents[4]


NAMES = ("adds_noise", "PrivateTraining")


def nodes() -> Iterator[tuple[str, ast.AST]]:
    """Yield the nodes of each file that has one of the NAMES, with its path."""
    for folder in ("workloads", "rackwright", "stacks"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            text = file.read_text()
            for node in ast.walk(ast.parse(text)) if any(name in text for name in NAMES) else ():
                yield f"{file.relative_to(ROOT)}", node


def test_one_class_alone_adds_noise_and_one_place_makes_it() -> None:
    adding, making = [], []
    for file, node in nodes():
        if isinstance(node, ast.Assign | ast.AnnAssign) and ast.unparse(node).startswith("adds_noise"):
            adding.append((file, ast.unparse(node)))
        if isinstance(node, ast.Attribute) and node.attr == "adds_noise" and not isinstance(node.ctx, ast.Load):
            adding.append((file, ast.unparse(node)))
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == "PrivateTraining":
            making.append(file)
    assert adding == [
        ("workloads/training/loop.py", "adds_noise = False"),
        ("workloads/training/privacy/training.py", "adds_noise = True"),
    ]
    assert making == ["workloads/training/run.py"]


def test_a_training_without_noise_refuses_a_promise(tmp_path: Path) -> None:
    nothing = cast("Any", None)
    with pytest.raises(UserError, match="this training adds no noise"):
        Training(private(tmp_path), nothing, nothing)


def test_a_federation_refuses_a_promise(tmp_path: Path) -> None:
    recipe = private(tmp_path, "steps=4")
    model = initial_model(config("digits"))
    with pytest.raises(UserError, match="a promise that a federation does not keep"):
        check_recipe(recipe, 2)
    with pytest.raises(UserError, match="adds no noise"):
        train_round(recipe, model, 1, 2, None, tmp_path)
    with pytest.raises(UserError, match="adds no noise"):
        evaluate(recipe, model, tmp_path)
