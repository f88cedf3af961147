"""Commands about GPUs."""

import json
import signal
import threading
from typing import Annotated

import typer

from rackwright import terminal
from rackwright.cli import project

app = typer.Typer(no_args_is_help=True, help="The GPUs of a stack.")


@app.command()
def top(
    stack: Annotated[str, typer.Argument(metavar="STACK")],
    as_json: Annotated[bool, typer.Option("--json", help="Print once, for machines.")] = False,
    once: Annotated[bool, typer.Option("--once", help="Print one table, and end.")] = False,
    seconds: Annotated[float, typer.Option(min=0.1, help="Time between two looks.")] = 2,
) -> None:
    """Show what every GPU is doing, and what is over its limit; until it is interrupted. Reads only.

    Exit status: 1 an alert, 3 no alert but a host was not reached or something is unknown.
    """
    from rich.console import Group
    from rich.live import Live

    from rackwright.hosts.pool import Hosts
    from rackwright.status import gpus
    from rackwright.status.gpu_table import summary, table

    loaded = project.stack(stack)
    hosts, console = Hosts(loaded.endpoints, loaded.salt), terminal.console()
    if as_json or once or not console.is_terminal:
        report = gpus.observe(hosts, loaded)
        if as_json:
            terminal.show(json.dumps(gpus.as_json(report), indent=2))
        else:
            console.print(table(report), summary(report), sep="\n")
    else:
        with Live(console=console, auto_refresh=False) as live:
            for report in gpus.watch(hosts, loaded, seconds, _interrupted()):
                live.update(Group(table(report), summary(report)), refresh=True)
    hosts.close()
    raise typer.Exit(report.exit_status)


def _interrupted() -> threading.Event:
    """Return what is set by the first interrupt from now on; the next one is raised as always.

    An exception may come up where Python swallows all of them, and then nothing would end.
    """
    event = threading.Event()

    def end(number: int, frame: object) -> None:
        event.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    signal.signal(signal.SIGINT, end)
    return event
