"""The command dashboards."""

from pathlib import Path
from typing import Annotated

import typer

from rackwright import terminal
from rackwright.cli.arguments import OPERATE

app = typer.Typer()
"""The commands of this module; they stand among those of the stack."""


@app.command(rich_help_panel=OPERATE)
def dashboards(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Directory for the files; it is made if needed.")],
) -> None:
    """Write dashboards of Grafana for the metrics of monitoring: rack, training run and model server.

    The files are JSON for Grafana 11.6, and `provider.yaml` for its folder `provisioning/dashboards`. The suite
    installs no Grafana.
    """
    from rackwright.status.dashboards import write

    for path in write(directory):
        terminal.show(path)
