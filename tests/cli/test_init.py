"""`rackwright init`: the project that it writes is complete, and what is there stays."""

import json
import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from rackwright.cli.app import app
from rackwright.cli.ci_files import CI_TEXTS, ProjectStack, ci_files
from rackwright.cli.init import (
    DEPLOYMENTS,
    RETIRING,
    STACKS,
    TEXTS,
    TOOLS,
    Example,
    project_files,
    project_name,
)
from rackwright.cli.packages import Packages, read_packages
from rackwright.cli.project import fleet_schema
from rackwright.errors import DeclarationError, UserError
from rackwright.stack import declare, feasible, load_stack
from rackwright.stack.resources import declare_unchecked
from tests.support.diagnostics import sentences
from tests.support.sources import ROOT
from tests.support.wheel_directory import OTHER, OURS, WHEEL, write_wheel

PACKAGES = Packages(OTHER + OURS, WHEEL, b"a wheel")


def write(files: Mapping[str, str | bytes], directory: Path) -> None:
    for path, content in files.items():
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_bytes(content if isinstance(content, bytes) else content.encode())


@pytest.mark.parametrize("example", Example)
def test_each_stack_of_an_example_declares_its_resources(example: Example, tmp_path: Path) -> None:
    write(project_files("demo", example, python=False), tmp_path)
    (tmp_path / ".rackwright/models").mkdir(parents=True)

    for stack in STACKS[example]:
        loaded = load_stack(stack, tmp_path)
        if example is Example.serving:  # which has no model before a training
            continue
        if stack in DEPLOYMENTS:  # whose packages come from the lock, which a person fetches first
            with pytest.raises(DeclarationError, match="there is no lock"):
                declare(loaded)
            assert declare_unchecked(loaded)
        else:
            assert declare(loaded)


def test_the_fleet_in_python_declares_what_the_one_in_yaml_declares(tmp_path: Path) -> None:
    declared = []
    for python in (False, True):
        directory = tmp_path / str(python)
        write(project_files("demo", Example.rack, python), directory)
        declared.append([(each.token, each.name) for each in declare(load_stack("lab", directory))])

    assert declared[0] == declared[1]


def matches(path: str, pattern: str) -> bool:
    """Return whether *path* matches *pattern* as editors read it: `!(a|b)` is anything but a or b, `*` has no slash."""

    def words(text: str) -> str:
        return re.escape(text).replace(r"\*", "[^/]*")

    parts = re.split(r"!\(([^)]*)\)", pattern)
    regex = words(parts[0])
    for excluded, rest in zip(parts[1::2], parts[2::2], strict=True):
        nothing = "|".join(f"{words(each)}{words(rest)}$" for each in excluded.split("|"))
        regex += f"(?!{nothing})[^/]*{words(rest)}"
    return re.fullmatch(regex, path) is not None


@pytest.mark.parametrize(
    ("example", "wanted"),
    [
        (Example.training, ["stacks/training.yaml", "stacks/rack-full.yaml"]),
        (Example.factory, ["stacks/factory/factory.yaml", "stacks/factory/models.yaml"]),
    ],
)
def test_an_editor_checks_each_fleet_against_the_schema(example: Example, wanted: list[str]) -> None:
    files = project_files("demo", example, python=False)
    [(path, fleets)] = json.loads(files[".vscode/settings.json"])["yaml.schemas"].items()

    assert json.loads(files[path.removeprefix("./")]) == json.loads(fleet_schema())
    assert all(any(matches(fleet, pattern) for pattern in fleets) for fleet in [*wanted, "stacks/a-second.yaml"])
    others = ["stacks/Pulumi.lab.yaml", "stacks/rack.lock.yaml", "stacks/factory/factory.lock.yaml", "Pulumi.yaml"]
    assert not any(matches(other, pattern) for pattern in fleets for other in others)
    for fleet in wanted:
        [line, *_] = str(files[fleet]).splitlines()
        schema = line.removeprefix("# yaml-language-server: $schema=")
        assert os.path.normpath(Path(fleet).parent / schema) == ".vscode/fleet.schema.json"


def test_no_placeholder_is_left_and_all_yaml_is_valid() -> None:
    contents: dict[str, str | bytes] = {
        **project_files("demo", Example.rack, python=False),
        **ci_files(PACKAGES, [ProjectStack("lab")]),
    }
    for path, text in contents.items():
        if isinstance(text, bytes):
            continue
        assert not any(name in text for name in ("PROJECT_NAME", "STACK_NAME", "FLEET_NAME", "TWIN_NAME")), path
        if path.endswith((".yaml", ".yml")):
            assert yaml.safe_load(text), path
    assert set(TEXTS) < set(project_files("demo", Example.rack, python=False))


@pytest.mark.parametrize("example", DEPLOYMENTS)
def test_a_deployment_is_copied_whole(example: Example) -> None:
    """Each file of the directory is there, apart from locks; fleets have a line for editors and a version before it."""
    files = project_files("demo", example, python=False)
    shipped = ROOT / "stacks" / example.value
    tracked = subprocess.run(["git", "ls-files", "."], cwd=shipped, capture_output=True, text=True, check=True).stdout
    for path in tracked.split():
        content, copied = (shipped / path).read_bytes(), files[f"stacks/{example.value}/{path}"]
        if path.endswith(".yaml"):
            lines = str(copied).splitlines(keepends=True)
            added = ("# yaml-language-server:", "schema_version: 1\n")
            assert "".join(line for line in lines if not line.startswith(added)) == content.decode()
        else:
            assert (copied if isinstance(copied, bytes) else copied.encode()) == content
    assert {f"stacks/{example.value}/README.md", f"stacks/Pulumi.{example.value}-models.yaml"} <= files.keys()
    assert f"`stacks/{example.value}/{example.value}.yaml`" in str(files["README.md"])


@pytest.mark.parametrize("example", DEPLOYMENTS)
def test_a_new_deployment_needs_nothing_but_its_lock(
    example: Example, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = CliRunner().invoke(app, ["init", str(tmp_path / "demo"), "--example", example.value])
    assert done.exit_code == 0 and f"stacks/{example.value}/README.md, which explains" in done.output
    assert f"`rackwright twin start {example.value}`, then `rackwright up {example.value}`" in done.output
    assert "note" not in done.output
    monkeypatch.chdir(tmp_path / "demo")
    hosts, models = STACKS[example]
    checked = CliRunner().invoke(app, ["check", models])
    assert checked.exit_code == 0 and "no errors" in checked.output, checked.output
    with pytest.raises(DeclarationError) as error:
        feasible.check(load_stack(hosts, Path.cwd()))
    [lock] = error.value.diagnostics
    *tools, fetch = re.findall("`(.+?)`", lock.help or "")
    assert fetch == f"rackwright lock --fetch {hosts}"
    # those that are not built here
    assert {*tools} <= {f"rackwright toolchain {each}" for each in TOOLS.get(example, ())}, (
        "those that are not built here"
    )


@pytest.mark.parametrize("example", RETIRING)
def test_an_example_that_ends_has_a_hint(example: Example, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["init", str(tmp_path / "demo"), "--example", example.value])
    assert done.exit_code == 0
    assert f"note    the next version has no example {example.value}; whole deployments are hospital" in done.output


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


def test_without_packages_nothing_names_a_package(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["init", str(tmp_path / "demo")])

    assert done.exit_code == 0 and "no CI   `rackwright init" in done.output
    assert not {*CI_TEXTS, "requirements.txt"} & set(project_files("demo", Example.rack, python=False))
    assert not list((tmp_path / "demo").rglob("requirements*"))


def test_ci_files_come_with_the_wheel_and_the_hashes(tmp_path: Path) -> None:
    (tmp_path / "dist").mkdir()
    write_wheel(tmp_path / "dist", OTHER + OURS)

    done = CliRunner().invoke(app, ["init", str(tmp_path / "demo"), "--packages", str(tmp_path / "dist")])

    assert done.exit_code == 0, done.output
    assert (tmp_path / "demo/packages" / WHEEL).read_bytes() == b"a wheel"
    assert read_packages(tmp_path / "dist").requirements == (tmp_path / "demo/requirements.txt").read_text()
    assert all((tmp_path / "demo" / path).is_file() for path in CI_TEXTS)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--index-url", "https://packages.example/simple"], "the URL is for CI files"),
        (["--packages", "dist", "--index-url", "http://packages.example/simple"], "got 'http://"),
        (["--packages", "dist", "--index-url", "https://a:b@packages.example"], "without a user"),
        (["--packages", "dist", "--index-url", "https://x/; id"], "got 'https://x/; id'"),
        (["--packages", "dist", "--index-url", "https://x/$(id)"], "got 'https://x/$(id)'"),
        (["--packages", "dist", "--index-url", "https://x/\n  - id"], "got 'https://x/"),
        (["--packages", "no-dist"], "no-dist/requirements-s3.txt: the file cannot be read"),
    ],
)
def test_packages_that_cannot_be_installed_safely_are_refused(
    tmp_path: Path, arguments: list[str], problem: str
) -> None:
    done = CliRunner().invoke(app, ["init", str(tmp_path / "demo"), *arguments])

    assert isinstance(done.exception, UserError) and problem in str(done.exception)
    assert not (tmp_path / "demo").exists()


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
