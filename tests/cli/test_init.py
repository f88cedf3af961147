"""`rackwright init`: the project that it writes is complete, and what is there stays."""

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from rackwright.cli.app import app
from rackwright.cli.init import STACKS, TEXTS, Example, project_files, project_name
from rackwright.cli.project import fleet_schema
from rackwright.errors import UserError
from rackwright.stack import declare, load_stack
from tests.support.diagnostics import sentences


@pytest.mark.parametrize("example", Example)
def test_each_stack_of_an_example_declares_its_resources(example: Example, tmp_path: Path) -> None:
    for path, text in project_files("demo", example, python=False).items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    (tmp_path / ".rackwright/models").mkdir(parents=True)

    for stack in STACKS[example]:
        loaded = load_stack(stack, tmp_path)
        assert example is Example.serving or declare(loaded)  # which has no model before a training


def test_the_fleet_in_python_declares_what_the_one_in_yaml_declares(tmp_path: Path) -> None:
    declared = []
    for python in (False, True):
        directory = tmp_path / str(python)
        for path, text in project_files("demo", Example.rack, python).items():
            (directory / path).parent.mkdir(parents=True, exist_ok=True)
            (directory / path).write_text(text)
        declared.append([(each.token, each.name) for each in declare(load_stack("lab", directory))])

    assert declared[0] == declared[1]


def test_an_editor_checks_each_fleet_against_the_schema() -> None:
    files = project_files("demo", Example.training, python=False)
    [(path, fleets)] = json.loads(files[".vscode/settings.json"])["yaml.schemas"].items()

    assert json.loads(files[path.removeprefix("./")]) == json.loads(fleet_schema())
    assert fleets == ["stacks/training.yaml", "stacks/rack-full.yaml"]
    for fleet in fleets:
        assert files[fleet].splitlines()[0] == "# yaml-language-server: $schema=../.vscode/fleet.schema.json"


def test_no_placeholder_is_left_and_all_yaml_is_valid() -> None:
    for path, text in project_files("demo", Example.rack, python=False).items():
        assert not any(name in text for name in ("PROJECT_NAME", "STACK_NAME", "FLEET_NAME", "TWIN_NAME")), path
        if path.endswith((".yaml", ".yml")):
            assert yaml.safe_load(text), path
    assert set(TEXTS) < set(project_files("demo", Example.rack, python=False))


THEIRS = """\
# our project
name: theirs
runtime: nodejs  # since 2024
plugins:
  providers:
  - name: other
    path: bin
"""
EXTENDED = f"""\
{THEIRS}\
  - {{name: rackwright, path: .rackwright/bin}}
stackConfigDir: stacks
"""


def test_a_second_init_overwrites_nothing_and_lists_every_file(tmp_path: Path) -> None:
    (tmp_path / "Pulumi.yaml").write_text(THEIRS)
    (tmp_path / "__main__.py").write_text("import theirs\n")

    first = CliRunner().invoke(app, ["init", str(tmp_path)])
    lines = first.output.splitlines()

    assert (tmp_path / "Pulumi.yaml").read_text() == THEIRS
    assert (tmp_path / "__main__.py").read_text() == "import theirs\n"
    assert [line for line in lines if line.startswith("left")] == [
        f"left    {tmp_path}/Pulumi.yaml, which exists",
        f"left    {tmp_path}/__main__.py, which exists",
    ]
    assert "+stackConfigDir: stacks" in lines and "+  - {name: rackwright, path: .rackwright/bin}" in lines
    second = CliRunner().invoke(app, ["init", str(tmp_path)])
    assert "wrote" not in second.output
    assert second.output.count("left") == len(project_files("x", Example.rack, python=False))


def test_an_existing_project_gets_the_provider_and_keeps_its_comments(tmp_path: Path) -> None:
    (tmp_path / "Pulumi.yaml").write_text(THEIRS)

    changed = CliRunner().invoke(app, ["init", str(tmp_path), "--yes"])
    assert f"changed {tmp_path}/Pulumi.yaml" in changed.output
    assert (tmp_path / "Pulumi.yaml").read_text() == EXTENDED

    again = CliRunner().invoke(app, ["init", str(tmp_path), "--yes"])
    assert "changed" not in again.output and "+++" not in again.output
    assert (tmp_path / "Pulumi.yaml").read_text() == EXTENDED


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("name: theirs\nstackConfigDir: config\n", "got stackConfigDir 'config'; stackConfigDir 'stacks'"),
        ("plugins: [a]\n", "got plugins ['a']; a mapping"),
        ("plugins: {providers: [{name: rackwright, path: b}]}\n", "'path': 'b'}; the provider {'name': 'rackwright'"),
        ("- a\n", "it has no keys"),
        ("a: [\n", "it cannot be read"),
    ],
)
def test_a_project_that_contradicts_is_refused_before_a_file_is_written(
    tmp_path: Path, text: str, problem: str
) -> None:
    (tmp_path / "Pulumi.yaml").write_text(text)

    done = CliRunner().invoke(app, ["init", str(tmp_path), "--yes"])

    assert isinstance(done.exception, UserError)
    assert f"{tmp_path}/Pulumi.yaml: " in str(done.exception) and problem in str(done.exception)
    assert [path.name for path in tmp_path.iterdir()] == ["Pulumi.yaml"]
    assert (tmp_path / "Pulumi.yaml").read_text() == text


def test_only_the_rack_has_a_fleet_in_python(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["init", str(tmp_path / "demo"), "--python", "--example", "serving"])

    assert isinstance(done.exception, UserError)
    text = "--python: the example serving is declared in YAML alone; the example rack. Leave out --python or --example."
    assert sentences(str(done.exception)) == text
    assert not (tmp_path / "demo").exists()


@pytest.mark.parametrize(
    ("directory", "name"), [("demo", "demo"), ("Rack 7 (Zürich)", "Rack-7-Z-rich-"), ("a.b_c", "a.b_c")]
)
def test_a_project_has_the_name_of_its_directory(directory: str, name: str, tmp_path: Path) -> None:
    assert project_name(tmp_path / directory) == name
