"""The init command: it writes a project with an example fleet, or adds the missing files to a Pulumi project."""

import json
import os
import re
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from rackwright import locations, terminal
from rackwright.cli import project
from rackwright.cli.arguments import SET_UP
from rackwright.cli.ci_files import ci_files, project_stacks
from rackwright.cli.packages import read_packages
from rackwright.cli.project_text import render
from rackwright.cli.upgrade import SCHEMA, diff
from rackwright.errors import ChangeRefused, Diagnostic, command
from rackwright.files import write_atomic

app = typer.Typer()
PROGRAM = '"""The Pulumi program: the fleet of the selected stack."""\n\nimport rackwright\n\nrackwright.run()\n'
TEXTS = {
    ".gitignore": "gitignore",
    "Pulumi.yaml": "Pulumi.yaml",
    "README.md": "README.md",
}
"""Files of a project, with the names of their texts in project_files/."""
INDEX_URL = re.compile(r"https://[A-Za-z0-9.-]+(:[0-9]+)?(/[A-Za-z0-9._~+-]+)*/?")
"""URLs of indexes that CI files may have: without characters that a shell or YAML reads, and without a password."""


class Example(StrEnum):
    rack = "rack"
    hospital = "hospital"
    bank = "bank"
    factory = "factory"
    rack_full = "rack-full"
    training = "training"
    serving = "serving"


FLEETS = ("stacks/!(Pulumi.*|*.lock).yaml", "stacks/*/!(*.lock).yaml")
"""Patterns of the files that an editor compares with the schema: all fleets of a project, also later ones."""
DEPLOYMENTS = (Example.hospital, Example.bank, Example.factory)
"""Examples with a directory of their own in stacks/, all of whose files a project gets."""
NOT_COPIED = (".lock.yaml", ".known_hosts")
"""Ends of the names of files that belong to one computer."""
STACKS = {
    Example.rack: ("lab",),
    **{example: (example.value, f"{example.value}-models") for example in DEPLOYMENTS},
    Example.rack_full: ("lab-full",),
    Example.training: ("training", "lab-full"),
    Example.serving: ("serving", "lab-full"),
}
"""The stacks of each example."""
TWINS = {**{example: stacks[-1] for example, stacks in STACKS.items()}, **{each: each.value for each in DEPLOYMENTS}}
"""The stack of the twin that each example needs."""
TOOLS = {
    Example.hospital: ("registry",),
    Example.bank: ("kubernetes", "kubernetes-queue", "kubernetes-metrics", "registry"),
}
"""Programs whose packages the hosts of an example get from here, by `rackwright toolchain`."""
RETIRING = (Example.rack_full, Example.training, Example.serving)
"""Examples that the next version does not have."""


@app.command(rich_help_panel=SET_UP)
def init(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A new directory, or one with a Pulumi project.")],
    example: Annotated[Example, typer.Option(help="The fleet to begin with.")] = Example.rack,
    python: Annotated[bool, typer.Option("--python", help="Declare the fleet in Python; only for rack.")] = False,
    packages: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Write CI files too, which install the wheel of this directory of `make wheel`."
        ),
    ] = None,
    index_url: Annotated[
        str, typer.Option(metavar="URL", help="The package index of CI, instead of the default of its runners.")
    ] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Change an existing Pulumi.yaml without a question.")] = False,
) -> None:
    """Write a project with an example fleet and its twin. Existing files stay as they are, and the command lists them.

    CI files come with `--packages` alone, for all stacks of the project: without hashes, pip installs whatever an index
    has under the name rackwright.

    In a directory with a Pulumi.yaml, the command adds the missing files. It shows what Pulumi.yaml lacks, and asks
    before it adds that; comments stay.
    """
    if python and example is not Example.rack:
        problem, help = f"the example {example.value} is declared in YAML alone", "Leave out --python or --example"
        raise ChangeRefused(Diagnostic("--python", problem, "the example rack", help))
    if index_url and packages is None:
        problem, help = "the URL is for CI files, which need the hashes of all packages", "Add --packages DIR"
        raise ChangeRefused(Diagnostic("--index-url", problem, help=help))
    if index_url and not INDEX_URL.fullmatch(index_url):
        expected = "an https:// URL of letters, digits and ._~+-/, without a user"
        raise ChangeRefused(Diagnostic("--index-url", f"got {index_url!r}", expected, "Give the URL of the index"))
    from rackwright.cli.pulumi_project import add_rackwright

    installed = read_packages(packages) if packages is not None else None
    existing = directory / "Pulumi.yaml"
    extended = add_rackwright(existing.read_text(encoding="utf-8"), str(existing)) if existing.is_file() else None
    present = _write(directory, project_files(project_name(directory), example, python))
    if installed is not None:
        present += _write(directory, ci_files(installed, project_stacks(directory), index_url))
    if extended is not None:
        _extend(existing, extended, yes)
    if installed is None:
        add = command("rackwright init {} --example {} --packages DIR", str(directory), example.value)
        terminal.show(f"no CI   {add} adds its files")
    if example in RETIRING:
        deployments = ", ".join(each.value for each in DEPLOYMENTS)
        terminal.show(f"note    the next version has no example {example.value}; whole deployments are {deployments}")
    _create_stacks(directory)
    _show_next_steps(directory, example, present)


def _write(directory: Path, contents: Mapping[str, str | bytes]) -> list[str]:
    """Write the files that *directory* lacks, and return the paths of those that exist."""
    present = [path for path in contents if (directory / path).exists()]
    for path, text in contents.items():
        if path in present:
            terminal.show(f"left    {directory / path}, which exists")
        else:
            write_atomic(directory / path, text)
            terminal.show(f"wrote   {directory / path}")
    return present


def _create_stacks(directory: Path) -> None:
    """Create the stacks of the project, if this computer has pulumi already: otherwise the first command does it."""
    from rackwright import toolchain
    from rackwright.cli import state

    if (found := toolchain.find()) is None:
        return
    root = directory.resolve()
    toolchain.prepare(root)
    environment = {**os.environ, **toolchain.environment(root, found, os.environ)}
    for name in state.create_missing(root, environment):
        terminal.show(f"created stack {name}")


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


def project_files(name: str, example: Example, python: bool) -> dict[str, str | bytes]:
    """Return the contents of all files of a project, by path."""
    stacks = _stack_files(STACKS[example], python)
    fleets = [path for path in stacks if not path.startswith("stacks/Pulumi.")]
    names = {
        "EXAMPLE_NAME": example.value,
        "FLEET_NAME": fleets[0].removeprefix("stacks/"),
        "PROJECT_NAME": name,
        "STACK_NAME": STACKS[example][0],
        "TWIN_NAME": TWINS[example],
    }
    return {
        **{path: render(text, names) for path, text in TEXTS.items()},
        **(_deployment_files(example) if example in DEPLOYMENTS else {}),
        **stacks,
        **_editor_files([path for path in fleets if path.endswith(".yaml")]),
        "__main__.py": PROGRAM,
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
        contents[f"stacks/{name}"] = text if python else _with_head(text, "../" * (name.count("/") + 1))
    for stack, text in settings.items():
        contents[f"stacks/Pulumi.{stack}.yaml"] = text.replace(".yaml\n", ".py\n") if python else text
    return contents


def _deployment_files(example: Example) -> dict[str, str | bytes]:
    """Return the contents of all files in the directory of a deployment, by path."""
    shipped = locations.repository() / "stacks"
    paths = (path for path in sorted((shipped / example.value).rglob("*")) if path.is_file())
    contents = {path: path.read_bytes() for path in paths if not path.name.endswith(NOT_COPIED)}
    return {
        f"stacks/{path.relative_to(shipped)}": content if path.suffix == ".npz" else content.decode()
        for path, content in contents.items()
    }


def _with_head(text: str, root: str) -> str:
    """Return the text of a fleet with its schema for editors, and the version of that.

    Args:
        root: The way from the directory of the fleet to that of the project.
    """
    from rackwright.fleet.upgrade import KEY, SCHEMA_VERSION

    version = f"{KEY}: {SCHEMA_VERSION}\n"
    return f"# yaml-language-server: $schema={root}{SCHEMA}\n" + re.sub(
        r"(?m)^(fleet: .*\n)", rf"\1{version}", text, count=1
    )


def _editor_files(fleets: list[str]) -> dict[str, str]:
    """Return the JSON Schema, and the settings with which an editor uses it for *fleets*."""
    if not fleets:
        return {}
    settings: Mapping[str, Any] = {"yaml.schemas": {f"./{SCHEMA}": [*FLEETS]}}
    return {
        SCHEMA: project.fleet_schema(),
        ".vscode/settings.json": f"{json.dumps(settings, indent=2)}\n",
    }


def _show_next_steps(directory: Path, example: Example, present: list[str]) -> None:
    """Print what to add to files that exist, and the commands with which to go on."""
    if "__main__.py" in present:
        terminal.show("add     `import rackwright` and `rackwright.run()` to the program")
    commands = [] if directory.resolve() == Path.cwd() else [command("cd {}", str(directory))]
    commands.append("`rackwright toolchain system`")
    if example in DEPLOYMENTS:
        commands += [command("rackwright toolchain {}", tool) for tool in TOOLS.get(example, ())]
        commands.append(command("rackwright lock --fetch {}", example.value))
    commands.append(command("rackwright twin start {}", TWINS[example]))
    commands.append(command("rackwright up {}", STACKS[example][0]))
    if example in DEPLOYMENTS:
        terminal.show(f"read    {directory / 'stacks' / example.value / 'README.md'}, which explains the parts")
    terminal.show(f"next    {', then '.join(commands)}")
