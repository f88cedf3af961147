"""The lineage command: it prints the origin of a model version."""

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, cast

import typer

from rackwright import terminal
from rackwright.cli import project
from rackwright.cli.arguments import MODELS, AsJson

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
        typer.Argument(metavar="MODEL[@ALIAS|/VERSION]", help="A registered model; by default its newest version."),
    ],
    tracking: Annotated[str, typer.Option(metavar="URL", envvar=project.TRACKING_URL, help="The MLflow server.")] = "",
    as_json: AsJson = False,
) -> None:
    """Print the origin of a model and of its parents: machines, lock, code and data.

    The account comes from MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD or from a file of credentials.
    Exit status: 0 all of it is known, 2 there is no such model or it is refused, 3 not reached, or a part is unknown.
    """
    from workloads.tracking import connect, load_lineage

    chain = load_lineage(connect(tracking, os.environ), model)
    if as_json:
        terminal.show_json(cast("LineageData", chain.as_data()))
    else:
        terminal.show(_text(chain))
    raise typer.Exit(UNKNOWN if chain.missing else 0)


def _text(chain: "Lineage") -> str:
    from workloads.tracking.provenance import required_keys

    lines: list[str] = []
    for version in chain.versions:
        made = datetime.fromtimestamp(version.created_ms / 1000, UTC)
        names = "".join(f" @{alias}" for alias in version.aliases)
        lines.append(f"{version}{names}, registered {made:%Y-%m-%d %H:%M} UTC by run {version.run or NOT_RECORDED}")
        for key in (*required_keys(version.tags), "checkpoint"):
            lines.append(f"  {key:<12} {version.tags.get(key, NOT_RECORDED)}")
    if chain.unregistered_parent:
        lines.append(f"its parent, checkpoint {chain.unregistered_parent}, is not registered")
    return "\n".join(lines)
