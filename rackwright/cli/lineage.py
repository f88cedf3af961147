"""The lineage command: it prints the origin of a model, by its version in a registry or by its directory."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from rackwright import terminal
from rackwright.cli import project
from rackwright.cli.arguments import MODELS, AsJson
from rackwright.errors import DeclarationError, Diagnostic, command

if TYPE_CHECKING:
    from rackwright.cli.json_types import LineageData
    from workloads.tracking import Lineage

app = typer.Typer()
UNKNOWN = 3
NOT_RECORDED = "unknown"


@app.command(rich_help_panel=MODELS)
def lineage(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL[@ALIAS|/VERSION]|DIR",
            help="A registered model, by default its newest version; or the directory of a run, a checkpoint, an "
            "export or a published model.",
        ),
    ],
    tracking: Annotated[str, typer.Option(metavar="URL", envvar=project.TRACKING_URL, help="The MLflow server.")] = "",
    as_json: AsJson = False,
) -> None:
    """Print the origin of a model and of its parents: machines, lock, code and data.

    A directory needs no server: its files name the parents, which are followed as far as they are on this computer.
    The account comes from MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD or from a file of credentials.
    Exit status: 0 all of it is known, 2 there is no such model or it is refused, 3 not reached, or a part is unknown.
    """
    chain = _load(model, tracking)
    if as_json:
        terminal.show_json(cast("LineageData", chain.as_data()))
    else:
        terminal.show(_text(chain))
    raise typer.Exit(UNKNOWN if chain.missing else 0)


def _load(model: str, tracking: str) -> "Lineage":
    """Return the lineage of *model*, a directory or the name of a version.

    Raises:
        UserError: There is no such model, its files cannot be read, or the server does not answer.
    """
    from workloads.tracking import connect, load_lineage
    from workloads.tracking.directories import has_lineage, load_directory_lineage
    from workloads.tracking.registry import REFERENCE

    directory = Path(model)
    if REFERENCE.fullmatch(model) is None or (has_lineage(directory) and not tracking):
        return load_directory_lineage(directory)
    if has_lineage(directory):
        problem, expected = f"{model} is a directory here, and may be a model at {tracking}", "one of both"
        by_path, by_name = (command("rackwright lineage {}", f"{prefix}{model}") for prefix in ("./", "models:/"))
        raise DeclarationError(Diagnostic("MODEL", problem, expected, f"Write {by_path} or {by_name}"))
    if not tracking:
        problem, expected = f"{model} is no directory with a lineage", "a directory, or a model of an MLflow server"
        help = f"Correct the path, or add --tracking URL or set {project.TRACKING_URL} for a registered model"
        raise DeclarationError(Diagnostic("MODEL", problem, expected, help))
    return load_lineage(connect(tracking, os.environ), model)


def _text(chain: "Lineage") -> str:
    lines: list[str] = []
    for entry in chain.versions:
        lines.append(entry.title)
        lines += [f"  {key:<12} {entry.tags.get(key, NOT_RECORDED)}" for key in (*entry.required_keys, "checkpoint")]
    if chain.lost_parent:
        lines.append(f"not found: {chain.lost_parent}")
    return "\n".join(lines)
