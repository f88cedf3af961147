"""The command for the GPUs of a stack."""

from typing import Annotated

import typer

from rackwright import terminal
from rackwright.cli import project
from rackwright.cli.arguments import AsJson, StackName

app = typer.Typer(no_args_is_help=True, help="The GPUs of a stack.")


@app.command()
def top(
    stack: StackName,
    as_json: AsJson = False,
    once: Annotated[bool, typer.Option("--once", help="Print one table, and end.")] = False,
    seconds: Annotated[float, typer.Option(min=0.1, help="Time between two measurements.")] = 2,
) -> None:
    """Show the figures of every GPU, with an alert for each over its limit, until Ctrl-C. Read-only.

    With --json, the command prints one measurement, and ends.

    Exit status: 1 an alert, 3 no alert, but a host was not reached or a figure is unknown.
    """
    from rich.console import Group
    from rich.live import Live

    from rackwright.cli.ending import stop_event
    from rackwright.hosts.pool import Hosts
    from rackwright.status import gpus
    from rackwright.status.gpu_table import summary, table

    loaded = project.stack(stack)
    project.notify_twin_off(loaded)
    hosts = Hosts(loaded.endpoints, loaded.salt, account_of_files=False)
    console = terminal.console()
    if as_json or once or not console.is_terminal:
        report = gpus.observe(hosts, loaded)
        if as_json:
            terminal.show_json(gpus.as_json(report))
        else:
            console.print(terminal.FittingTable(table(report)), summary(report), sep="\n")
    else:
        with Live(console=console, auto_refresh=False) as live:
            for report in gpus.watch(hosts, loaded, seconds, stop_event()):
                live.update(Group(terminal.FittingTable(table(report)), summary(report)), refresh=True)
    hosts.close()
    raise typer.Exit(report.exit_status)
