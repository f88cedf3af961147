"""The init command: it writes a project with an example fleet, or adds the missing files to a Pulumi project."""

import json
import re
from collections.abc import Mapping
from enum import StrEnum
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import typer

from rackwright import __version__, locations, terminal
from rackwright.cli import project
from rackwright.cli.arguments import SET_UP
from rackwright.cli.upgrade import SCHEMA, diff
from rackwright.errors import ChangeRefused, Diagnostic, command
from rackwright.files import write_atomic

app = typer.Typer()
PROGRAM = '"""The Pulumi program: the fleet of the selected stack."""\n\nimport rackwright\n\nrackwright.run()\n'
TEXTS = {
    ".github/workflows/rackwright.yaml": "github.yaml",
    ".gitignore": "gitignore",
    ".gitlab-ci.yml": "gitlab.yaml",
    "Pulumi.yaml": "Pulumi.yaml",
    "README.md": "README.md",
}
"""Files of a project, with the names of their texts in project_files/."""


class Example(StrEnum):
    rack = "rack"
    rack_full = "rack-full"
    training = "training"
    serving = "serving"


STACKS = {
    Example.rack: ("lab",),
    Example.rack_full: ("lab-full",),
    Example.training: ("training", "lab-full"),
    Example.serving: ("serving", "lab-full"),
}
"""The stacks of each example; the last is the one of the twin that the example needs."""


@app.command(rich_help_panel=SET_UP)
def init(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A new directory, or one with a Pulumi project.")],
    example: Annotated[Example, typer.Option(help="The fleet to begin with.")] = Example.rack,
    python: Annotated[bool, typer.Option("--python", help="Declare the fleet in Python; only for rack.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Change an existing Pulumi.yaml without a question.")] = False,
) -> None:
    """Write a project with an example fleet and its twin. Existing files stay as they are, and the command lists them.

    In a directory with a Pulumi.yaml, the command adds the missing files. It shows what Pulumi.yaml lacks, and asks
    before it adds that; comments stay.
    """
    if python and example is not Example.rack:
        problem, help = f"the example {example.value} is declared in YAML alone", "Leave out --python or --example"
        raise ChangeRefused(Diagnostic("--python", problem, "the example rack", help))
    from rackwright.cli.pulumi_project import add_rackwright

    existing = directory / "Pulumi.yaml"
    extended = add_rackwright(existing.read_text(encoding="utf-8"), str(existing)) if existing.is_file() else None
    contents = project_files(project_name(directory), example, python)
    present = [path for path in contents if (directory / path).exists()]
    for path, text in contents.items():
        if path in present:
            terminal.show(f"left    {directory / path}, which exists")
        else:
            write_atomic(directory / path, text)
            terminal.show(f"wrote   {directory / path}")
    if extended is not None:
        _extend(existing, extended, yes)
    _show_next_steps(directory, STACKS[example], present)


def _extend(path: Path, text: str, yes: bool) -> None:
    """Show the difference between the file *path* and *text*, ask, and write it."""
    if text == path.read_text(encoding="utf-8"):
        return
    terminal.show("".join(diff(path, text)), end="")
    if yes or terminal.confirm(f"Change {path} so?"):
        write_atomic(path, text)
        terminal.show(f"changed {path}")
    else:
        terminal.show(f"add     these lines to {path}, or run the command again with --yes")


def project_name(directory: Path) -> str:
    """Return a name that Pulumi accepts for the project in *directory*."""
    return re.sub(r"[^\w.-]+", "-", directory.resolve().name, flags=re.ASCII) or "rack"


def project_files(name: str, example: Example, python: bool) -> dict[str, str]:
    """Return the texts of all files of a project, by path."""
    stacks = _stack_files(STACKS[example], python)
    fleets = [path for path in stacks if not path.startswith("stacks/Pulumi.")]
    names = {
        "FLEET_NAME": Path(fleets[0]).name,
        "PROJECT_NAME": name,
        "STACK_NAME": STACKS[example][0],
        "TWIN_NAME": STACKS[example][-1],
    }
    return {
        **{path: _replace_names(_template(text), names) for path, text in TEXTS.items()},
        **stacks,
        **_editor_files([path for path in fleets if path.endswith(".yaml")]),
        "__main__.py": PROGRAM,
        "requirements.txt": f"rackwright=={__version__}\n",
    }


def _stack_files(stacks: tuple[str, ...], python: bool) -> dict[str, str]:
    """Return the fleets of *stacks*, and after them the settings, by path."""
    from rackwright.fleet.source import read

    shipped = locations.repository() / "stacks"
    settings = {stack: (shipped / f"Pulumi.{stack}.yaml").read_text() for stack in stacks}
    fleets = [read(shipped / f"Pulumi.{stack}.yaml").data["config"]["rackwright:fleet"] for stack in stacks]
    contents = {}
    for fleet in dict.fromkeys(fleets):
        name, source = (fleet.replace(".yaml", ".py"), "rack_py.py") if python else (fleet, fleet)
        text = (shipped / source).read_text()
        contents[f"stacks/{name}"] = text if python else _with_head(text)
    for stack, text in settings.items():
        contents[f"stacks/Pulumi.{stack}.yaml"] = text.replace(".yaml\n", ".py\n") if python else text
    return contents


def _with_head(text: str) -> str:
    """Return the text of a fleet with its schema for editors, and the version of that."""
    from rackwright.fleet.upgrade import KEY, SCHEMA_VERSION

    version = f"{KEY}: {SCHEMA_VERSION}\n"
    return f"# yaml-language-server: $schema=../{SCHEMA}\n" + re.sub(
        r"(?m)^(fleet: .*\n)", rf"\1{version}", text, count=1
    )


def _editor_files(fleets: list[str]) -> dict[str, str]:
    """Return the JSON Schema, and the settings with which an editor uses it for *fleets*."""
    if not fleets:
        return {}
    settings: Mapping[str, Any] = {"yaml.schemas": {f"./{SCHEMA}": fleets}}
    return {
        SCHEMA: project.fleet_schema(),
        ".vscode/settings.json": f"{json.dumps(settings, indent=2)}\n",
    }


def _template(name: str) -> str:
    return files("rackwright.cli").joinpath("project_files", name).read_text()


def _replace_names(text: str, names: Mapping[str, str]) -> str:
    return re.sub("|".join(names), lambda match: names[match[0]], text)


def _show_next_steps(directory: Path, stacks: tuple[str, ...], present: list[str]) -> None:
    """Print what to add to files that exist, and the commands with which to go on."""
    if "__main__.py" in present:
        terminal.show("add     `import rackwright` and `rackwright.run()` to the program")
    commands = [] if directory.resolve() == Path.cwd() else [command("cd {}", str(directory))]
    commands += ["`rackwright toolchain system`", command("rackwright twin start {}", stacks[-1])]
    commands.append(command("rackwright up {}", stacks[0]))
    terminal.show(f"next    {', then '.join(commands)}")
