"""`rackwright run recipes`, and the completion of the names of runs, servers and recipes."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from rackwright.cli import project, stacks
from rackwright.cli.app import app
from rackwright.errors import DeclarationError
from rackwright.schema.run import RESERVED
from workloads.recipes import RECIPES
from workloads.training.config import TrainingConfig


def test_each_recipe_is_listed() -> None:
    result = CliRunner().invoke(app, ["run", "recipes"])

    assert (result.exit_code, [line.split()[0] for line in result.stdout.splitlines()]) == (0, [*RECIPES])
    assert "lora              model hugging-face, data text, 1000 steps\n" in result.stdout


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_printed_as_set_replaces_it(name: str) -> None:
    result = CliRunner().invoke(app, ["run", "recipes", name])
    values = json.loads(result.stdout)

    assert not RESERVED & values.keys()
    assert TrainingConfig.model_validate_json(json.dumps({**values, "name": RECIPES[name]().name})) == RECIPES[name]()
    document = json.loads(CliRunner().invoke(app, ["run", "recipes", name, "--json"]).stdout)
    assert document["recipes"] == {name: values}


def test_another_name_is_refused_with_the_near_one() -> None:
    result = CliRunner().invoke(app, ["run", "recipes", "lorra"])

    assert isinstance(result.exception, DeclarationError) and "Write lora" in str(result.exception)


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("run status lab r", ["r1", "r2"]),
        ("run logs lab r2", ["r2"]),
        ("run stop lab ", ["other", "r1", "r2"]),
        ("run wait lab r", ["r1", "r2"]),
        ("server status lab ", ["small"]),
        ("server fetch lab s", ["small"]),
        ("server iterate lab s", ["small"]),
        ("server rollback lab x", []),
        ("run recipes deep", ["deepseek-v3", "deepseek-v3-tiny"]),
    ],
)
def test_the_shell_completes_names(words: str, names: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = SimpleNamespace(runs={"r1": 1, "r2": 1, "other": 1}, servers={"small": 1}, hosts={})
    monkeypatch.setattr(project, "stack", lambda name: SimpleNamespace(fleet=fleet))
    monkeypatch.setattr(stacks, "stack_names", lambda directory: ["lab"])
    environment = {
        "_RACKWRIGHT_COMPLETE": "complete_bash",
        "COMP_WORDS": f"rackwright {words}",
        "COMP_CWORD": str(len(words.split(" "))),
    }
    result = CliRunner().invoke(app, [], prog_name="rackwright", env=environment)

    assert sorted(result.stdout.split()) == names


def test_a_broken_project_completes_to_nothing(tmp_path: Path) -> None:
    environment = {**os.environ, "_RACKWRIGHT_COMPLETE": "complete_bash", "COMP_WORDS": "rackwright run status lab "}
    program = "from rackwright.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**environment, "COMP_CWORD": "4"},
        capture_output=True,
        text=True,
    )
    assert (done.stdout.strip(), done.stderr) == ("", "")
