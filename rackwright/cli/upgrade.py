"""The upgrade command: it migrates the fleet files of a project to the schema of this rackwright."""

import difflib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rackwright import terminal
from rackwright.cli import project
from rackwright.cli.arguments import DECLARE, AsJson
from rackwright.files import write_atomic

if TYPE_CHECKING:
    from rackwright.cli.json_types import Upgrade

app = typer.Typer()
SCHEMA = ".vscode/fleet.schema.json"
"""The JSON Schema for editors, which `rackwright init` writes."""


@app.command(rich_help_panel=DECLARE)
def upgrade(
    check: Annotated[bool, typer.Option("--check", help="Write nothing; status 1 if a file would change.")] = False,
    write: Annotated[bool, typer.Option("--write", help="Write the files. Comments stay.")] = False,
    as_json: AsJson = False,
) -> None:
    """Migrate all fleets in stacks/ to the schema of this rackwright, and the JSON Schema for editors.

    Fleets in Python are not changed. A state of another version: see `rackwright adopt --set-aside-state`.
    """
    if check == write:
        raise typer.BadParameter("one of --check and --write is needed", param_hint="--check")
    texts = dict(_upgrades(Path(os.path.relpath(project.directory()))))
    diffs = {str(path): "".join(diff(path, text)) for path, text in texts.items()}
    if write:
        for path, text in texts.items():
            write_atomic(path, text)
    if as_json:
        result: Upgrade = {"diffs": diffs, "written": write}
        terminal.show_json(result)
    else:
        for name, lines in diffs.items():
            terminal.show(f"wrote   {name}\n" if write else lines, end="")
        if not diffs:
            terminal.show("all fleets have the schema of this rackwright")
    raise typer.Exit(int(bool(diffs) and check))


def _upgrades(root: Path) -> Iterator[tuple[Path, str]]:
    """Yield each file of the project *root* that changes, with its new text.

    Raises:
        DeclarationError: a file has a version that this rackwright does not know; no file was written then.
    """
    from rackwright.fleet import upgrade
    from rackwright.fleet.source import read

    paths = [path for path in sorted((root / "stacks").glob("*.yaml")) if not _is_no_fleet(path)]
    texts = {path: upgrade.upgrade(read(path)) for path in paths}
    if (root / SCHEMA).is_file():
        texts[root / SCHEMA] = project.fleet_schema()
    yield from ((path, text) for path, text in texts.items() if path.read_text(encoding="utf-8") != text)


def _is_no_fleet(path: Path) -> bool:
    return path.name.startswith("Pulumi.") or path.name.endswith(".lock.yaml")


def diff(path: Path, text: str) -> Iterator[str]:
    """Return the unified diff from the file *path* to *text*."""
    before = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return difflib.unified_diff(before, text.splitlines(keepends=True), str(path), str(path))
