"""Commands about training runs."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from rackwright import terminal
from rackwright.cli import project

if TYPE_CHECKING:
    from rackwright.status.runs import RunReport

app = typer.Typer(no_args_is_help=True, help="The training runs of a stack.")
StackName = Annotated[str, typer.Argument(metavar="STACK", help="Name of a stack whose fleet has runs.")]
RunName = Annotated[str, typer.Argument(metavar="RUN")]
AsJson = Annotated[bool, typer.Option("--json", help="Print for machines.")]


@app.command()
def status(stack: StackName, run: RunName, as_json: AsJson = False) -> None:
    """Show how far a run is: its step, its loss, the time that is left, its last checkpoint, and each process's step.

    Exit status: 0 it runs or is finished, 1 it does not, 3 a host was not reached.
    """
    from rackwright.status import runs

    loaded = project.stack(stack)
    with project.connected(loaded) as hosts:
        _tell(runs.observe(hosts, loaded, run), as_json)


@app.command()
def logs(
    stack: StackName,
    run: RunName,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many of the last lines.")] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on, until it is interrupted.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print what the processes of a run have said, each line with its rank."""
    from rackwright.status import runs

    def say(line: str) -> None:
        terminal.show(json.dumps({"line": line}) if as_json else line, flush=True)

    loaded = project.stack(stack)
    with project.connected(loaded) as hosts:
        runs.stream_logs(hosts, loaded, run, lines, follow, say)


@app.command()
def stop(stack: StackName, run: RunName, as_json: AsJson = False) -> None:
    """Let a run save and end. Preview and audit show it from then on; `up` starts it again, from where it was.

    Exit status: 0 it stands still, 4 it could not be stopped.
    """
    from rackwright.status import runs

    loaded = project.stack(stack)
    with project.connected(loaded) as hosts:
        runs.stop(hosts, loaded, run, project.say)
        report = runs.observe(hosts, loaded, run)
    terminal.show(json.dumps(report.as_json(), indent=2) if as_json else report)


@app.command()
def wait(
    stack: StackName,
    run: RunName,
    seconds: Annotated[float | None, typer.Option(min=0, help="For how long at most.")] = None,
    as_json: AsJson = False,
) -> None:
    """Wait until a run is finished, or runs no more.

    Exit status: 0 finished, 1 stopped, 4 failed, 3 it still runs after so long, or is not known.
    """
    from rackwright.status import runs

    loaded = project.stack(stack)
    with project.connected(loaded) as hosts:
        report = runs.wait(hosts, loaded, run, seconds, project.say)
    terminal.show(json.dumps(report.as_json(), indent=2) if as_json else report)
    raise typer.Exit({"finished": 0, "failed": 4, "running": 3, "unknown": 3}.get(report.outcome, 1))


def _tell(report: "RunReport", as_json: bool) -> None:
    terminal.show(json.dumps(report.as_json(), indent=2) if as_json else report)
    raise typer.Exit(report.exit_status)
