"""The commands for training runs."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from rackwright import terminal
from rackwright.cli import project
from rackwright.cli.arguments import AsJson, RunName, StackName

if TYPE_CHECKING:
    from rackwright.cli.json_types import LogLine, Recipes
    from rackwright.status.runs import RunReport

app = typer.Typer(no_args_is_help=True, help="The training runs of a stack.")


def _complete_recipe(incomplete: str) -> list[str]:
    from workloads.recipes import RECIPES

    return [name for name in RECIPES if name.startswith(incomplete)]


@app.command()
def status(stack: StackName, run: RunName, as_json: AsJson = False) -> None:
    """Show the progress of a run: step, loss, remaining time, last checkpoint, and the step of each process.

    Exit status: 0 the run is running, queued or finished, 1 it is none of these, 3 a host was not reached.
    """
    from rackwright.status import runs

    loaded = project.stack(stack)
    with project.connect_hosts(loaded) as hosts:
        report = runs.observe(hosts, loaded, run)
    _print_report(report, as_json)
    raise typer.Exit(report.exit_status)


@app.command()
def logs(
    stack: StackName,
    run: RunName,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="Number of last lines.")] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Print new lines until Ctrl-C.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print the log of a run, each line with its rank."""
    from rackwright.status import runs

    loaded = project.stack(stack)
    launcher = runs.find_resources(loaded, run)[-1].source

    def print_line(line: str) -> None:
        if as_json:
            log_line: LogLine = {"host": launcher, "line": line}
            terminal.show_json(log_line, stream=True)
        else:
            terminal.show(line, flush=True)

    with project.connect_hosts(loaded) as hosts:
        runs.stream_logs(hosts, loaded, run, lines, follow, print_line)


@app.command()
def stop(stack: StackName, run: RunName, as_json: AsJson = False) -> None:
    """Stop a run after it has saved. Preview and audit report it; `up` resumes it from its checkpoint.

    Exit status: 0 it is stopped, 4 it could not be stopped.
    """
    from rackwright.cli import recording
    from rackwright.status import runs

    loaded = project.stack(stack)
    affected = [each.source for each in runs.find_resources(loaded, run)]
    with project.connect_hosts(loaded) as hosts:
        planned = [recording.change(run, "stop", host) for host in affected]
        with recording.record("run stop", loaded, affected, {"run": run}, planned):
            runs.stop(hosts, loaded, run, project.notify)
        report = runs.observe(hosts, loaded, run)
    _print_report(report, as_json)


@app.command()
def wait(
    stack: StackName,
    run: RunName,
    seconds: Annotated[float | None, typer.Option(min=0, help="Longest time to wait.")] = None,
    as_json: AsJson = False,
) -> None:
    """Wait until a run is finished, or no longer runs.

    Exit status: 0 finished, 1 stopped, 4 failed, 3 it still runs or waits after that time, or its state is unknown.
    """
    from rackwright.status import runs

    loaded = project.stack(stack)
    with project.connect_hosts(loaded) as hosts:
        report = runs.wait(hosts, loaded, run, seconds, project.notify)
    _print_report(report, as_json)
    raise typer.Exit({"finished": 0, "failed": 4, "running": 3, "queued": 3, "unknown": 3}.get(report.outcome, 1))


@app.command()
def recipes(
    recipe: Annotated[
        str | None,
        typer.Argument(
            metavar="RECIPE", help="Print the whole configuration of this recipe.", autocompletion=_complete_recipe
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the recipes of training runs, or print the configuration of one, as `set` of a run replaces it.

    Exit status: 2 no such recipe.
    """
    from rackwright.errors import DeclarationError, Diagnostic
    from rackwright.schema.problem import hint
    from rackwright.schema.run import RESERVED
    from workloads.recipes import RECIPES

    if recipe is not None and recipe not in RECIPES:
        expected, help = f"one of {', '.join(RECIPES)}", hint(recipe, RECIPES, "Name one of these")
        raise DeclarationError(Diagnostic("RECIPE", f"got {recipe!r}", expected, help))
    names = RECIPES if recipe is None else (recipe,)
    found = {name: RECIPES[name]().model_dump(mode="json", exclude=RESERVED) for name in names}
    if as_json:
        document: Recipes = {"recipes": found}
        terminal.show_json(document)
    elif recipe is not None:
        terminal.show(json.dumps(found[recipe], indent=2))
    else:
        width = max(map(len, found))
        for name, values in found.items():
            kinds = f"model {values['model']['kind']}, data {values['data']['kind']}, {values['steps']} steps"
            terminal.show(f"{name:<{width}}  {kinds}")


def _print_report(report: "RunReport", as_json: bool) -> None:
    if as_json:
        terminal.show_json(report.as_json())
    else:
        terminal.show(report)
