"""Commands about model servers."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from rackwright.cli import project

if TYPE_CHECKING:
    from rackwright.declaration import Stack
    from rackwright.spec.server import Served

app = typer.Typer(no_args_is_help=True, help="The model servers of a stack.")
StackName = Annotated[str, typer.Argument(metavar="STACK", help="Name of a stack whose fleet has servers.")]
ServerName = Annotated[str, typer.Argument(metavar="SERVER")]
AsJson = Annotated[bool, typer.Option("--json", help="Print for machines.")]


@app.command()
def status(stack: StackName, server: ServerName, as_json: AsJson = False) -> None:
    """Show what each host serves, how fast, and what it served before or refused.

    Exit status: 0 every host serves the declared version, 1 one does not, 3 one was not reached.
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
    _write(loaded, server, promoted(loaded, server, model), before, as_json)


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
    _write(loaded, server, model, report.version, as_json)


def _write(stack: "Stack", server: str, model: "Served", before: str, as_json: bool) -> None:
    from rackwright.declaration import served_line
    from rackwright.declaration.stack import settings

    path = stack.project / "stacks" / settings(stack.name, stack.project)["fleet"]
    text = served_line.with_another_model(path, server, model)
    served_line.check(text, path)
    project.replace(path, text)
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
