"""Commands about model servers."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rackwright.cli import project
from rackwright.iteration.asked import Stage
from workloads.common.tracking.server import URL

if TYPE_CHECKING:
    from rackwright.declaration import Stack
    from rackwright.spec.server import Served

app = typer.Typer(no_args_is_help=True, help="The model servers of a stack.")
StackName = Annotated[str, typer.Argument(metavar="STACK", help="Name of a stack whose fleet has servers.")]
ServerName = Annotated[str, typer.Argument(metavar="SERVER")]
AsJson = Annotated[bool, typer.Option("--json", help="Print for machines.")]


@app.command()
def status(stack: StackName, server: ServerName, as_json: AsJson = False) -> None:
    """Show what each host serves, how fast and, where it is watched, how right; what it served before or refused.

    Exit status: 0 every host serves the declared version, 1 one does not, or is not as right as it has to be, 3 one was
    not reached, or its accuracy is not known.
    """
    from rackwright.audit import servers

    loaded = project.stack(stack)
    with project.connected(loaded) as hosts:
        report = servers.look(hosts, loaded, server)
    print(json.dumps(report.as_json(), indent=2) if as_json else report)
    raise typer.Exit(report.exit_status)


@app.command()
def logs(
    stack: StackName,
    server: ServerName,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many of the last lines of each host.")] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on, until it is interrupted.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print what the servers have said, each line with its host; never what was in a request."""
    from rackwright.audit import servers

    def say(host: str, line: str) -> None:
        print(json.dumps({"host": host, "line": line}) if as_json else f"{host}: {line}", flush=True)

    loaded = project.stack(stack)
    with project.connected(loaded) as hosts:
        servers.logs(hosts, loaded, server, lines, follow, say)


@app.command()
def promote(
    stack: StackName,
    server: ServerName,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Directory below the project's, or a version.")],
    as_json: AsJson = False,
) -> None:
    """Write another model into the fleet's file; the next `up` lets one host after the other serve it. Touches no host.

    Exit status: 0 written, 2 it is no model, or not good enough.
    """
    from rackwright.audit import servers
    from rackwright.declaration.served_line import promoted

    loaded = project.stack(stack)
    before = servers.specs(loaded, server)[0].version
    chosen = promoted(loaded, server, model)
    _told(loaded, server, chosen, before, write(loaded, server, chosen), as_json)


@app.command()
def iterate(
    stack: StackName,
    server: ServerName,
    data: Annotated[Path, typer.Option(metavar="NEW.npz", help="New rows: an array for the input, and `labels`.")],
    given: Annotated[
        Path | None, typer.Option("--from", metavar="DIR", help="The training of what is served, if it is not found.")
    ] = None,
    tracking: Annotated[str, typer.Option(metavar="URL", envvar=URL, help="An MLflow server that may have it.")] = "",
    may_lose: Annotated[
        float, typer.Option(min=0, max=0.99, help="How much accuracy, of 1, on each set that is known already.")
    ] = 0.01,
    target: Annotated[str | None, typer.Option(help="cpu, or a GPU of the catalogue; else as what is served.")] = None,
    processes: Annotated[int, typer.Option(min=1, help="That train, on this computer.")] = 1,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="tune.steps=100, quantize.calibration=entropy; may be repeated."
        ),
    ] = None,
    until: Annotated[Stage, typer.Option(help="The last stage; promote touches no host yet.")] = Stage.UP,
    as_json: AsJson = False,
) -> None:
    """Bring new data to what is served: find its training, fine-tune, gate, quantise, promote, roll out.

    Each stage is timed; the report is in .rackwright/iterations/SERVER. The same again goes on where it ended. Exit
    status: 0 served, or as far as --until, 1 a gate refused it, 2 wrong or refused, 3 not reached, 4 a step failed.
    """
    from rackwright.cli.iterate import run
    from rackwright.iteration.asked import Asked

    asked = Asked(
        project.stack(stack), server, data, tuple(changes or ()), may_lose, target, given, tracking, processes, until
    )
    run(asked, as_json)


@app.command()
def rollback(stack: StackName, server: ServerName, as_json: AsJson = False) -> None:
    """Write the version that was served before into the fleet's file; its hosts have it, and the next `up` serves it.

    Exit status: 0 written, 2 there is none, 3 a host was not reached.
    """
    from rackwright.audit import servers

    loaded = project.stack(stack)
    with project.connected(loaded) as hosts:
        report = servers.look(hosts, loaded, server)
    model = loaded.fleet.servers[server].model.model_copy(update={"version": report.before()})
    _told(loaded, server, model, report.version, write(loaded, server, model), as_json)


def write(stack: "Stack", server: str, model: "Served") -> Path:
    """Write *model* as that of *server* into the fleet's file, and return that file."""
    from rackwright.declaration import served_line
    from rackwright.declaration.stack import settings

    path = stack.project / "stacks" / settings(stack.name, stack.project)["fleet"]
    text = served_line.with_another_model(path, server, model)
    served_line.check(text, path)
    project.replace(path, text)
    return path


def _told(stack: "Stack", server: str, model: "Served", before: str, path: Path, as_json: bool) -> None:
    if as_json:
        print(
            json.dumps(
                {"server": server, "file": str(path), "model": model.model_dump(exclude_none=True), "before": before}
            )
        )
        return
    told = ", ".join(f"{name} {value}" for name, value in model.model_dump(exclude_none=True).items())
    project.say(
        f"{path.name}: {server} has {told} in the place of version {before}; see what that does with"
        f" `rackwright preview {stack.name}`, and do it with `rackwright up {stack.name}`"
    )
